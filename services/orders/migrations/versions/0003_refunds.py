"""Refunds, and the external actions that are their parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"

_REFUND = """
CREATE TABLE orders.refund (
  tenant_id     text        NOT NULL,
  refund_id     text        COLLATE "C" NOT NULL,
  order_id      text        COLLATE "C" NOT NULL,
  person_id     text        NOT NULL,
  currency_code text        NOT NULL,
  amount_minor  bigint      NOT NULL CHECK (amount_minor > 0),
  reason        text        NOT NULL,
  initiated_by  text        NOT NULL,
  principal_id  text        NOT NULL,
  completed_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, refund_id),
  FOREIGN KEY (tenant_id, order_id) REFERENCES orders.sales_order
)
"""

_ACTION = """
ALTER TABLE orders.external_action
  ADD COLUMN refund_id          text COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN refunded_action_id text COLLATE "C" NOT NULL DEFAULT '',
  ADD CHECK ((refund_id = '') = (refunded_action_id = ''))
"""

_INDEXES = (
    "CREATE INDEX refund_by_time ON orders.refund (tenant_id, completed_at DESC, refund_id DESC)",
    "CREATE INDEX refund_of_order ON orders.refund (tenant_id, order_id, completed_at DESC, refund_id DESC)",
    "CREATE INDEX external_action_of_refund ON orders.external_action (tenant_id, refund_id) WHERE refund_id <> ''",
)
_IN_USE = sa.text("SELECT EXISTS (SELECT FROM orders.refund)")


def upgrade() -> None:
    """Create the table and the columns."""
    for statement in (_REFUND, _ACTION, *_INDEXES):
        op.execute(statement)
    schema.protect(op, "orders", "refund", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop them.

    Raises:
        RuntimeError: there are refunds. Nothing would bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "refunds of orders are written down, which nothing brings again: a release without them cannot be gone back"
            " to"
        )
    op.execute("DROP TABLE orders.refund")
    op.execute(
        "ALTER TABLE orders.external_action DROP COLUMN refund_id, DROP COLUMN refunded_action_id"
    )
