"""Alembic's entry to schema `pricing`."""

from services.runtime.migrations import run_env

run_env("pricing")
