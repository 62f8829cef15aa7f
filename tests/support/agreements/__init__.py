"""Agreements on a real server."""
