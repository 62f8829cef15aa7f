"""Alembic's entry to schema orchestration."""

from services.runtime.migrations import run_env

run_env("orchestration")
