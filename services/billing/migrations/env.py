"""Alembic's entry to the schema of billing."""

from services.runtime.migrations import run_env

run_env("billing")
