"""Alembic's entry to the schema of the contract monitor."""

from services.runtime.migrations import run_env

run_env("monitoring")
