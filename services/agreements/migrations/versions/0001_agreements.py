"""Agreements and their edits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

_AGREEMENT = """
CREATE TABLE agreements.agreement (
  tenant_id    text        NOT NULL,
  agreement_id text        COLLATE "C" NOT NULL,
  revision     integer     NOT NULL CHECK (revision >= 1),
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, agreement_id)
) WITH (fillfactor = 85)
"""

# An edit is kept as the text that was written: its meaning must not depend on how a database normalises it.
_EDIT = """
CREATE TABLE agreements.edit (
  tenant_id    text        NOT NULL,
  agreement_id text        COLLATE "C" NOT NULL,
  revision     integer     NOT NULL CHECK (revision >= 1),
  kind         text        NOT NULL,
  body         text        NOT NULL,
  effective_at timestamptz NOT NULL,
  recorded_at  timestamptz NOT NULL,
  principal_id text        NOT NULL,
  PRIMARY KEY (tenant_id, agreement_id, revision),
  FOREIGN KEY (tenant_id, agreement_id) REFERENCES agreements.agreement
)
"""
_INDEX = "CREATE INDEX agreement_by_time ON agreements.agreement (tenant_id, created_at DESC, agreement_id DESC)"
_IN_USE = sa.text("SELECT EXISTS (SELECT FROM agreements.agreement)")


def upgrade() -> None:
    """Create the tables."""
    for statement in (_AGREEMENT, _EDIT, _INDEX):
        op.execute(statement)
    service = schema.role_names(op).service
    schema.protect(op, "agreements", "agreement", privileges=schema.APPEND_ONLY)
    schema.protect(op, "agreements", "edit", privileges=schema.APPEND_ONLY)
    op.execute(f'GRANT UPDATE (revision) ON agreements.agreement TO "{service}"')


def downgrade() -> None:
    """Drop them.

    Raises:
        RuntimeError: there are agreements. Nothing would bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "agreements are stored, which nothing brings again: a release without the service cannot be gone back to"
        )
    op.execute("DROP TABLE agreements.edit")
    op.execute("DROP TABLE agreements.agreement")
