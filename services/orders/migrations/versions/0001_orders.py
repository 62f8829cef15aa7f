"""Orders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# Status and vias are open: a later release may store others.
_ORDER = """
CREATE TABLE orders.sales_order (
  tenant_id       text        NOT NULL,
  order_id        text        COLLATE "C" NOT NULL,
  person_id       text        NOT NULL,
  organization_id text        NOT NULL,
  status          text        NOT NULL,
  currency_code   text        NOT NULL,
  total_minor     bigint      NOT NULL CHECK (total_minor BETWEEN 0 AND 999999999999999),
  paid_minor      bigint      NOT NULL DEFAULT 0 CHECK (paid_minor >= 0),
  refunded_minor  bigint      NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND paid_minor),
  created_via     text        NOT NULL,
  updated_via     text        NOT NULL DEFAULT '',
  notes           text        NOT NULL,
  operator_flags  text[]      NOT NULL,
  cancel_reason   text        NOT NULL DEFAULT '',
  cancelled_at    timestamptz,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz,
  PRIMARY KEY (tenant_id, order_id),
  CHECK ((status = 'CANCELLED') = (cancelled_at IS NOT NULL)),
  CHECK (paid_minor <= total_minor),
  CHECK (status <> 'PAID' OR paid_minor = total_minor)
) WITH (fillfactor = 85)
"""

_INDEXES = (
    "CREATE INDEX sales_order_by_time ON orders.sales_order (tenant_id, created_at DESC, order_id DESC)",
    "CREATE INDEX sales_order_by_person"
    " ON orders.sales_order (tenant_id, person_id, created_at DESC, order_id DESC)",
    "CREATE INDEX sales_order_by_organization"
    " ON orders.sales_order (tenant_id, organization_id, created_at DESC, order_id DESC)",
    "CREATE INDEX sales_order_by_status"
    " ON orders.sales_order (tenant_id, status, created_at DESC, order_id DESC)",
)
_CHANGING = (
    "status, total_minor, paid_minor, refunded_minor, updated_via, notes, operator_flags, cancel_reason, cancelled_at,"
    " updated_at"
)
_IN_USE = sa.text("SELECT EXISTS (SELECT FROM orders.sales_order)")


def upgrade() -> None:
    """Create the table."""
    for statement in (_ORDER, *_INDEXES):
        op.execute(statement)
    service = schema.role_names(op).service
    schema.protect(op, "orders", "sales_order", privileges=schema.APPEND_ONLY)
    op.execute(f'GRANT UPDATE ({_CHANGING}) ON orders.sales_order TO "{service}"')


def downgrade() -> None:
    """Drop it.

    Raises:
        RuntimeError: there are orders. Nothing would bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "orders are stored, which nothing brings again: a release without the service cannot be gone back to"
        )
    op.execute("DROP TABLE orders.sales_order")
