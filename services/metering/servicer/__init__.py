"""Answers of metering's gRPC services, one service a module."""
