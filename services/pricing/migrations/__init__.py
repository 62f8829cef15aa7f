"""Alembic environment of schema `pricing`."""
