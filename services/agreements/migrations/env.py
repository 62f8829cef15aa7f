"""Alembic's entry to the schema of agreements."""

from services.runtime.migrations import run_env

run_env("agreements")
