"""Alembic environment of schema `agreements`."""
