"""NATS servers, and sites that they join."""
