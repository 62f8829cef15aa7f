"""Processors: the port that a payment provider is reached through, and the sandbox behind it."""
