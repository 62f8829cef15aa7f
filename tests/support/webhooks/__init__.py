"""Receivers of webhooks, and the worker that calls them."""
