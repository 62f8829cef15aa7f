"""Alembic environment of schema `ledger`."""
