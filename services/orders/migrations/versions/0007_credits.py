"""Grants of credits, what happened to each, and what falls due of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0003"

# Whoever takes of an owner's credits locks this row first.
_ACCOUNT = """
CREATE TABLE orders.credit_account (
  tenant_id  text        NOT NULL,
  owner_id   text        COLLATE "C" NOT NULL,
  unit       text        COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, owner_id, unit)
)
"""

# Sources are open: a later release may store others.
_GRANT = """
CREATE TABLE orders.credit_grant (
  tenant_id      text        NOT NULL,
  grant_id       text        COLLATE "C" NOT NULL,
  owner_id       text        COLLATE "C" NOT NULL,
  unit           text        COLLATE "C" NOT NULL,
  amount         bigint      NOT NULL CHECK (amount BETWEEN 1 AND 999999999999999),
  source         text        NOT NULL,
  priority       integer     NOT NULL,
  order_id       text        COLLATE "C" NOT NULL,
  granted_at     timestamptz NOT NULL,
  effective_at   timestamptz NOT NULL,
  expires_at     timestamptz,
  rollover_max   bigint      NOT NULL CHECK (rollover_max >= 0),
  rollovers_left integer     NOT NULL CHECK (rollovers_left >= 0),
  period_days    integer     NOT NULL CHECK (period_days >= 0),
  held           bigint      NOT NULL DEFAULT 0 CHECK (held >= 0),
  used           bigint      NOT NULL DEFAULT 0 CHECK (used >= 0),
  lapsed         bigint      NOT NULL DEFAULT 0 CHECK (lapsed >= 0),
  taken_back     bigint      NOT NULL DEFAULT 0 CHECK (taken_back >= 0),
  reversed_at    timestamptz,
  PRIMARY KEY (tenant_id, grant_id),
  FOREIGN KEY (tenant_id, owner_id, unit) REFERENCES orders.credit_account,
  CHECK (held + used + lapsed + taken_back <= amount)
) WITH (fillfactor = 80)
"""

# Entries are facts: they never change.
_ENTRY = """
CREATE TABLE orders.credit_entry (
  tenant_id      text        NOT NULL,
  entry_id       text        COLLATE "C" NOT NULL,
  grant_id       text        COLLATE "C" NOT NULL,
  owner_id       text        COLLATE "C" NOT NULL,
  unit           text        COLLATE "C" NOT NULL,
  source         text        NOT NULL,
  kind           text        NOT NULL,
  amount         bigint      NOT NULL CHECK (amount > 0),
  reservation_id text        COLLATE "C" NOT NULL,
  order_id       text        COLLATE "C" NOT NULL,
  recorded_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, entry_id),
  FOREIGN KEY (tenant_id, grant_id) REFERENCES orders.credit_grant
)
"""

# The item is an entry to be posted, or a grant whose time is over; the beginning of its id says which.
_DUE = """
CREATE TABLE orders.credit_due (
  tenant_id      text        NOT NULL,
  item_id        text        COLLATE "C" NOT NULL,
  due_at         timestamptz,
  lease_owner    text,
  lease_until    timestamptz,
  epoch          bigint      NOT NULL DEFAULT 0,
  tries          integer     NOT NULL DEFAULT 0,
  correlation_id text        NOT NULL DEFAULT '',
  causation_id   text        NOT NULL DEFAULT '',
  traceparent    text        NOT NULL DEFAULT '',
  posting_id     uuid,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, item_id)
) WITH (fillfactor = 80)
"""

_INDEXES = (
    "CREATE INDEX credit_grant_by_time ON orders.credit_grant (tenant_id, granted_at DESC, grant_id DESC)",
    "CREATE INDEX credit_grant_of_owner"
    " ON orders.credit_grant (tenant_id, owner_id, unit, granted_at DESC, grant_id DESC)",
    "CREATE INDEX credit_grant_of_order"
    " ON orders.credit_grant (tenant_id, order_id, granted_at DESC, grant_id DESC) WHERE order_id <> ''",
    "CREATE INDEX credit_grant_live ON orders.credit_grant (tenant_id, owner_id, unit)"
    " WHERE used + lapsed + taken_back < amount",
    "CREATE INDEX credit_entry_of_owner ON orders.credit_entry (tenant_id, owner_id, unit, recorded_at)",
    "CREATE INDEX credit_due_at ON orders.credit_due (due_at) WHERE due_at IS NOT NULL",
)
_CHANGING = "expires_at, rollovers_left, held, used, lapsed, taken_back, reversed_at"
_TABLES = ("credit_account", "credit_grant", "credit_entry", "credit_due")
_IN_USE = sa.text("SELECT EXISTS (SELECT FROM orders.credit_grant)")


def upgrade() -> None:
    """Create the tables."""
    for statement in (_ACCOUNT, _GRANT, _ENTRY, _DUE, *_INDEXES):
        op.execute(statement)
    service = schema.role_names(op).service
    for table in _TABLES:
        schema.protect(op, "orders", table, privileges=schema.APPEND_ONLY)
    # To lock a row takes the right to update it.
    op.execute(f'GRANT UPDATE (created_at) ON orders.credit_account TO "{service}"')
    op.execute(f'GRANT UPDATE ({_CHANGING}) ON orders.credit_grant TO "{service}"')
    op.execute(
        f'GRANT UPDATE (due_at, lease_owner, lease_until, posting_id) ON orders.credit_due TO "{service}"'
    )
    schema.queue(op, "orders", "credit_due", "item_id", traced=True, name="credit")


def downgrade() -> None:
    """Drop them.

    Raises:
        RuntimeError: there are grants. Nothing would bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "credits were granted, which nothing brings again: a release without them cannot be gone back to"
        )
    schema.drop_queue(op, "orders", name="credit")
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE orders.{table}")
