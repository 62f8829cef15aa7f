"""Alembic's entry to the schema of the event service."""

from services.runtime.migrations import run_env

run_env("events")
