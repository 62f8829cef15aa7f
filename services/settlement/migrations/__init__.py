"""Alembic environment of schema `settlement`."""
