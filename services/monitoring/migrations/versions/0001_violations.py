"""Contracts and violations."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

_CONTRACT = """
CREATE TABLE monitoring.contract (
  tenant_id     text        NOT NULL,
  contract_id   text        NOT NULL,
  title         text        NOT NULL,
  description   text        NOT NULL,
  owner         text        NOT NULL,
  severity      text        NOT NULL,
  kind          text        NOT NULL,
  runbook       text        NOT NULL,
  version       integer     NOT NULL CHECK (version > 0),
  registered_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, contract_id)
)
"""

# contract_version is 0 where the contract was not known when the violation was told.
_VIOLATION = """
CREATE TABLE monitoring.violation (
  tenant_id             text        NOT NULL,
  violation_id          text        NOT NULL,
  contract_id           text        NOT NULL,
  contract_version      integer     NOT NULL CHECK (contract_version >= 0),
  request_id            text        NOT NULL,
  severity              text        NOT NULL,
  message               text        NOT NULL,
  service               text        NOT NULL,
  subject_id            text        NOT NULL,
  occurred_at           timestamptz NOT NULL,
  recorded_at           timestamptz NOT NULL,
  fingerprint           bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
  fingerprint_algorithm smallint    NOT NULL,
  PRIMARY KEY (tenant_id, violation_id)
)
"""

_INDEXES = {
    "violation_recorded": "tenant_id, recorded_at, violation_id",
    "violation_contract": "tenant_id, contract_id, recorded_at, violation_id",
    "violation_group": "tenant_id, fingerprint, recorded_at, violation_id",
    "violation_request": "tenant_id, request_id, recorded_at, violation_id",
}


def upgrade() -> None:
    """Make them."""
    op.execute(_CONTRACT)
    op.execute(_VIOLATION)
    for name, columns in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON monitoring.violation ({columns})")
    schema.protect(op, "monitoring", "contract", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "monitoring", "violation", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE monitoring.violation, monitoring.contract")
