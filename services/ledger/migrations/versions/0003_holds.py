"""Holds, limits of balances, reversals, and what transfers say beside their amount."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"

# As a hold stands now; what it was made with stays in its transfer. Due work while it is open and has an end.
_HOLD = """
CREATE TABLE ledger.hold (
  tenant_id         text        NOT NULL,
  transfer_id       uuid        NOT NULL,
  debit_account_id  text        COLLATE "C" NOT NULL,
  credit_account_id text        COLLATE "C" NOT NULL,
  currency_code     text        NOT NULL,
  code              integer     NOT NULL,
  amount_minor      bigint      NOT NULL CHECK (amount_minor >= 0),
  remaining_minor   bigint      NOT NULL CHECK (remaining_minor BETWEEN 0 AND amount_minor),
  state             smallint    NOT NULL CHECK (state BETWEEN 1 AND 4),
  expires_at        timestamptz,
  closing_debit     boolean     NOT NULL,
  closing_credit    boolean     NOT NULL,
  multi_capture     boolean     NOT NULL,
  due_at            timestamptz,
  lease_owner       text,
  lease_until       timestamptz,
  epoch             bigint      NOT NULL DEFAULT 0,
  tries             integer     NOT NULL DEFAULT 0,
  correlation_id    text        NOT NULL,
  causation_id      text        NOT NULL,
  traceparent       text        NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id),
  CHECK (state = 1 OR (remaining_minor = 0 AND due_at IS NULL))
)
"""

_UP = (
    # New columns have defaults: a process of the release before can go on.
    "ALTER TABLE ledger.account ADD COLUMN floor_minor bigint CHECK (floor_minor <= 0),"
    " ADD COLUMN ceiling_minor bigint CHECK (ceiling_minor >= 0)",
    "ALTER TABLE ledger.balance ADD COLUMN floor_minor bigint, ADD COLUMN ceiling_minor bigint,"
    " ADD COLUMN debits_pending bigint NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),"
    " ADD COLUMN credits_pending bigint NOT NULL DEFAULT 0 CHECK (credits_pending >= 0)",
    "ALTER TABLE ledger.transfer ADD COLUMN pending_id uuid, ADD COLUMN timeout_ms bigint NOT NULL DEFAULT 0,"
    " ADD COLUMN flags smallint NOT NULL DEFAULT 0, ADD COLUMN asked_all boolean NOT NULL DEFAULT false,"
    " ADD COLUMN reverses_id uuid,"
    " DROP CONSTRAINT transfer_amount_minor_check,"
    # A hold that only closes an account is of nothing, and so is its end.
    " ADD CONSTRAINT transfer_amount_minor_check CHECK (amount_minor > 0 OR amount_minor = 0 AND kind IN (2, 4))",
    # Of two that reverse the same transfer at once, one is refused.
    "CREATE UNIQUE INDEX transfer_reverses ON ledger.transfer (tenant_id, reverses_id) WHERE reverses_id IS NOT NULL",
    _HOLD,
    "CREATE INDEX hold_due ON ledger.hold (due_at) WHERE due_at IS NOT NULL",
)

_DOWN = (
    "DROP TABLE ledger.hold",
    # Holds and what gave them up moved nothing; what was posted of one stays, as a transfer like others.
    "DELETE FROM ledger.transfer_id i USING ledger.transfer t"
    " WHERE t.tenant_id = i.tenant_id AND t.transfer_id = i.transfer_id AND t.kind IN (2, 4)",
    "DELETE FROM ledger.transfer WHERE kind IN (2, 4)",
    "UPDATE ledger.transfer SET kind = 1 WHERE kind = 3",
    # The rules that burnt these ids are not known any more; the nearest are: the account, the limit.
    "UPDATE ledger.transfer_id SET result = CASE result WHEN 90 THEN 50 WHEN 82 THEN 80 WHEN 83 THEN 80 ELSE 81 END"
    " WHERE result IN (82, 83, 84, 85, 90)",
    "ALTER TABLE ledger.transfer DROP COLUMN pending_id, DROP COLUMN timeout_ms, DROP COLUMN flags,"
    " DROP COLUMN asked_all, DROP COLUMN reverses_id, DROP CONSTRAINT transfer_amount_minor_check,"
    " ADD CONSTRAINT transfer_amount_minor_check CHECK (amount_minor > 0)",
    # An account that a hold had closed is what it was made as.
    "UPDATE ledger.balance b SET closed = a.closed FROM ledger.account a"
    " WHERE a.tenant_id = b.tenant_id AND a.account_id = b.account_id AND a.closed <> b.closed",
    "ALTER TABLE ledger.balance DROP COLUMN floor_minor, DROP COLUMN ceiling_minor, DROP COLUMN debits_pending,"
    " DROP COLUMN credits_pending",
    "ALTER TABLE ledger.account DROP COLUMN floor_minor, DROP COLUMN ceiling_minor",
)


def upgrade() -> None:
    """Make the table of holds and the columns."""
    for statement in _UP:
        op.execute(statement)
    schema.protect(op, "ledger", "hold", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.queue(op, "ledger", "hold", "transfer_id", traced=True)


def downgrade() -> None:
    """Drop them, with every hold."""
    schema.drop_queue(op, "ledger")
    for statement in _DOWN:
        op.execute(statement)
