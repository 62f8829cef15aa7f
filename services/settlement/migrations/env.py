"""Alembic's entry to the schema of settlement."""

from services.runtime.migrations import run_env

run_env("settlement")
