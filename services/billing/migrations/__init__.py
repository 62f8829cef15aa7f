"""Alembic environment of schema `billing`."""
