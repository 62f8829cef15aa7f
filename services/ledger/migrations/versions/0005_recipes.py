"""Recipes that tenants store, and postings of recipes."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0005"
down_revision = "0004"

# One row a version; the content is the JSON form of payments.ledger.v1.Recipe.
_RECIPE = """
CREATE TABLE ledger.recipe (
  tenant_id  text        NOT NULL,
  name       text        COLLATE "C" NOT NULL,
  version    integer     NOT NULL CHECK (version > 0),
  content    jsonb       NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name, version)
)
"""

# Never partitioned, as ledger.transfer_id: a posting is unique over all time. Legs, groups and transfers stand at the
# same places of their arrays.
_POSTING = """
CREATE TABLE ledger.posting (
  tenant_id      text        NOT NULL,
  posting_id     uuid        NOT NULL,
  recipe         text        NOT NULL,
  version        integer     NOT NULL CHECK (version > 0),
  reference_kind text        COLLATE "C" NOT NULL,
  reference_id   text        COLLATE "C" NOT NULL,
  reference_part text        COLLATE "C" NOT NULL,
  parameters     jsonb       NOT NULL,
  legs           text[]      NOT NULL,
  groups         integer[]   NOT NULL,
  transfer_ids   uuid[]      NOT NULL,
  effective_at   timestamptz,
  recorded_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, posting_id),
  CHECK (cardinality(legs) = cardinality(transfer_ids) AND cardinality(groups) = cardinality(transfer_ids))
)
"""
_BY_REFERENCE = (
    "CREATE INDEX posting_by_reference ON ledger.posting (tenant_id, reference_kind, reference_id)"
)


def upgrade() -> None:
    """Make the tables. What is in them can only be added to."""
    for statement in (_RECIPE, _POSTING, _BY_REFERENCE):
        op.execute(statement)
    schema.protect(op, "ledger", "recipe", privileges=schema.APPEND_ONLY)
    schema.protect(op, "ledger", "posting", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop them. The transfers of the postings stay, as transfers like others."""
    op.execute("DROP TABLE ledger.posting")
    op.execute("DROP TABLE ledger.recipe")
