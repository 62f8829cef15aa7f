"""Alembic's entry to schema metering."""

from services.runtime.migrations import run_env

run_env("metering")
