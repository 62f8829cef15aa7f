"""Alembic environment of schema orchestration."""
