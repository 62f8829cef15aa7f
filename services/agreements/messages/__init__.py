"""Protobuf messages from and to the words of the domain."""
