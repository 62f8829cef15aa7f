"""Alembic's entry to the runtime's own schema."""

from services.runtime.migrations import run_env

run_env("mesh")
