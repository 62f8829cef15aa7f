"""Alembic's entry to the schema of orders."""

from services.runtime.migrations import run_env

run_env("orders")
