"""Alembic environment of schema `orders`."""
