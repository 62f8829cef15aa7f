"""External actions, and what the ledger is to make of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

# Actions are facts: they never change. Methods and paths are open, as those of events are.
_ACTION = """
CREATE TABLE orders.external_action (
  tenant_id          text        NOT NULL,
  external_action_id text        COLLATE "C" NOT NULL,
  order_id           text        COLLATE "C" NOT NULL,
  person_id          text        NOT NULL,
  organization_id    text        NOT NULL,
  action             text        NOT NULL,
  payment_method     text        NOT NULL,
  payment_path       text        NOT NULL,
  provider_ref       text        NOT NULL CHECK (provider_ref <> ''),
  currency_code      text        NOT NULL,
  amount_minor       bigint      NOT NULL CHECK (amount_minor > 0),
  operator           text        NOT NULL,
  principal_id       text        NOT NULL,
  check_number       text        NOT NULL,
  request_sha256     bytea       NOT NULL,
  occurred_at        timestamptz NOT NULL,
  recorded_at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, external_action_id),
  FOREIGN KEY (tenant_id, order_id) REFERENCES orders.sales_order,
  CHECK ((payment_method = 'check') = (check_number <> ''))
)
"""

_POSTING = """
CREATE TABLE orders.posting (
  tenant_id          text        NOT NULL,
  external_action_id text        COLLATE "C" NOT NULL,
  due_at             timestamptz,
  lease_owner        text,
  lease_until        timestamptz,
  epoch              bigint      NOT NULL DEFAULT 0,
  tries              integer     NOT NULL DEFAULT 0,
  correlation_id     text        NOT NULL DEFAULT '',
  causation_id       text        NOT NULL DEFAULT '',
  traceparent        text        NOT NULL DEFAULT '',
  created_at         timestamptz NOT NULL,
  posting_id         uuid,
  posted_at          timestamptz,
  PRIMARY KEY (tenant_id, external_action_id),
  FOREIGN KEY (tenant_id, external_action_id) REFERENCES orders.external_action,
  CHECK ((due_at IS NULL) = (posted_at IS NOT NULL)),
  CHECK ((posting_id IS NULL) = (posted_at IS NULL))
) WITH (fillfactor = 80)
"""

_INDEXES = (
    "CREATE INDEX external_action_of_order"
    " ON orders.external_action (tenant_id, order_id, recorded_at, external_action_id)",
    # The same payment is no second one, and neither is the same check.
    "CREATE UNIQUE INDEX external_action_by_provider_ref"
    " ON orders.external_action (tenant_id, order_id, provider_ref, action)",
    "CREATE UNIQUE INDEX external_action_by_check"
    " ON orders.external_action (tenant_id, order_id, check_number)"
    " WHERE check_number <> '' AND action = 'payment.received'",
    "CREATE INDEX posting_due ON orders.posting (due_at) WHERE due_at IS NOT NULL",
)
_IN_USE = sa.text("SELECT EXISTS (SELECT FROM orders.external_action)")


def upgrade() -> None:
    """Create the tables."""
    for statement in (_ACTION, _POSTING, *_INDEXES):
        op.execute(statement)
    service = schema.role_names(op).service
    for table in ("external_action", "posting"):
        schema.protect(op, "orders", table, privileges=schema.APPEND_ONLY)
    op.execute(
        "GRANT UPDATE (due_at, lease_owner, lease_until, posting_id, posted_at)"
        f' ON orders.posting TO "{service}"'
    )
    schema.queue(op, "orders", "posting", "external_action_id", traced=True, name="posting")


def downgrade() -> None:
    """Drop them.

    Raises:
        RuntimeError: there are payments. Nothing would bring them again.
    """
    if op.get_bind().execute(_IN_USE).scalar_one():
        raise RuntimeError(
            "payments of orders are written down, which nothing brings again: a release without them cannot be gone"
            " back to"
        )
    schema.drop_queue(op, "orders", name="posting")
    op.execute("DROP TABLE orders.posting")
    op.execute("DROP TABLE orders.external_action")
