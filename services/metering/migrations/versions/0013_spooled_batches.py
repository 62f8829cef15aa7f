"""Batches that were held while the database was away leave what became of them."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0013"
down_revision = "0010"

# The row is written with the batch: that there is one says that the batch is stored, and is not to be stored again.
_BATCH = """
CREATE TABLE metering.spooled_batch (
  tenant_id         text COLLATE "C" NOT NULL,
  receipt_id        uuid             NOT NULL,
  stored_receipt_id uuid             NOT NULL,
  events            integer          NOT NULL CHECK (events > 0),
  accepted          integer          NOT NULL CHECK (accepted >= 0),
  duplicate         integer          NOT NULL CHECK (duplicate >= 0),
  conflict          integer          NOT NULL CHECK (conflict >= 0),
  rejected          integer          NOT NULL CHECK (rejected >= 0),
  problems          bytea            NOT NULL,
  received_at       timestamptz      NOT NULL,
  drained_at        timestamptz      NOT NULL,
  PRIMARY KEY (tenant_id, receipt_id),
  CHECK (accepted + duplicate + conflict + rejected = events)
)
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_BATCH)
    schema.protect(op, "metering", "spooled_batch", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop it. What was drained stays stored; drain the spool first, or what still lies in it is stored once more."""
    op.execute("DROP TABLE metering.spooled_batch")
