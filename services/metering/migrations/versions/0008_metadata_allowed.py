"""Metadata of events has only the keys that its tenant allows."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; nobody has limited keys yet."""
    op.execute(
        "ALTER TABLE metering.ingest_settings ADD COLUMN metadata_allowed text[] NOT NULL DEFAULT '{}'"
    )
    op.execute(f"GRANT UPDATE (metadata_allowed) ON metering.ingest_settings TO {_service()}")


def downgrade() -> None:
    """Drop it: any key is taken again."""
    op.execute("ALTER TABLE metering.ingest_settings DROP COLUMN metadata_allowed")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
