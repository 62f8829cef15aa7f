"""Alembic's entry to the schema of the ledger."""

from services.runtime.migrations import run_env

run_env("ledger")
