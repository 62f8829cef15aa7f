"""Transfers that post themselves later, as due work; monitors of balances."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0008"
down_revision = "0007"

# A transfer as it was sent, until it is posted and for good. The first of a chain is the due work of all of it.
_SCHEDULED = """
CREATE TABLE ledger.scheduled (
  tenant_id         text        NOT NULL,
  transfer_id       uuid        NOT NULL,
  first_id          uuid        NOT NULL,
  position          integer     NOT NULL CHECK (position >= 0),
  debit_account_id  text        COLLATE "C" NOT NULL,
  credit_account_id text        COLLATE "C" NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      CHECK (amount_minor > 0),
  code              integer     NOT NULL,
  linked            boolean     NOT NULL,
  effective_at      timestamptz,
  metadata          jsonb       NOT NULL,
  flags             smallint    NOT NULL,
  reference_kind    text        COLLATE "C",
  reference_id      text        COLLATE "C",
  reference_part    text        COLLATE "C",
  not_before        timestamptz NOT NULL,
  state             smallint    NOT NULL CHECK (state BETWEEN 1 AND 4),
  refusal           smallint,
  cancel_reason     text        NOT NULL DEFAULT '',
  accepted_at       timestamptz NOT NULL,
  ended_at          timestamptz,
  due_at            timestamptz,
  lease_owner       text,
  lease_until       timestamptz,
  epoch             bigint      NOT NULL DEFAULT 0,
  tries             integer     NOT NULL DEFAULT 0,
  correlation_id    text        NOT NULL,
  causation_id      text        NOT NULL,
  traceparent       text        NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id),
  CHECK ((state = 1) = (ended_at IS NULL)),
  CHECK ((state = 3) = (refusal IS NOT NULL)),
  CHECK ((due_at IS NOT NULL) = (state = 1 AND transfer_id = first_id)),
  CHECK ((reference_kind IS NULL) = (reference_id IS NULL) AND (reference_kind IS NULL) = (reference_part IS NULL))
)
"""

_MONITOR = """
CREATE TABLE ledger.monitor (
  tenant_id       text        NOT NULL,
  monitor_id      text        COLLATE "C" NOT NULL,
  account_id      text        COLLATE "C",
  account_prefix  text        COLLATE "C",
  side            smallint    NOT NULL CHECK (side BETWEEN 1 AND 3),
  comparison      smallint    NOT NULL CHECK (comparison BETWEEN 1 AND 4),
  currency_code   text        NOT NULL,
  threshold_minor bigint      NOT NULL,
  description     text        NOT NULL,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, monitor_id),
  CHECK ((account_id IS NULL) <> (account_prefix IS NULL))
)
"""

_UP = (
    _SCHEDULED,
    "CREATE INDEX scheduled_due ON ledger.scheduled (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX scheduled_chain ON ledger.scheduled (tenant_id, first_id, position)",
    "CREATE INDEX scheduled_by_state ON ledger.scheduled (tenant_id, state, not_before, transfer_id)",
    _MONITOR,
    "CREATE INDEX monitor_of_account ON ledger.monitor (tenant_id, account_id) WHERE account_id IS NOT NULL",
    # A batch looks at these of its tenant: they are found without reading the others.
    "CREATE INDEX monitor_of_prefix ON ledger.monitor (tenant_id) WHERE account_prefix IS NOT NULL",
    # Read with the lock of the balance: an account that no monitor names costs nothing more.
    "ALTER TABLE ledger.balance ADD COLUMN monitored boolean NOT NULL DEFAULT false",
    "ALTER TABLE ledger.transfer ADD COLUMN not_before timestamptz",
)

_DOWN = (
    "DROP TABLE ledger.scheduled",
    "DROP TABLE ledger.monitor",
    "ALTER TABLE ledger.balance DROP COLUMN monitored",
    "ALTER TABLE ledger.transfer DROP COLUMN not_before",
    # What still waits is lost with the release that knew it, and its ids are free again.
    "DELETE FROM ledger.transfer_id WHERE result = 2",
    # The release before knows no cancelling; the nearest is: it failed with others.
    "UPDATE ledger.transfer_id SET result = 11 WHERE result = 110",
)


# An id whose transfer still waits is no fact yet: what is decided on it when it is due, or cancelled, is.
_OWN_OR_WAITING = "USING (claimed_by = pg_current_xact_id() OR result = 2)"
_OWN = "USING (claimed_by = pg_current_xact_id())"
_RIGHTS = (("balance", "monitored"), ("transfer_id", "recorded_at"))


def upgrade() -> None:
    """Make the tables and the columns."""
    for statement in _UP:
        op.execute(statement)
    schema.protect(op, "ledger", "scheduled", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "ledger", "monitor")
    schema.queue(op, "ledger", "scheduled", "transfer_id", traced=True, name="scheduled")
    service = _service()
    op.execute(
        f"ALTER POLICY own_claim_update ON ledger.transfer_id {_OWN_OR_WAITING} WITH CHECK (true)"
    )
    op.execute(f"ALTER POLICY own_claim_delete ON ledger.transfer_id {_OWN_OR_WAITING}")
    for table, column in _RIGHTS:
        op.execute(f"GRANT UPDATE ({column}) ON ledger.{table} TO {service}")


def downgrade() -> None:
    """Drop them, with every monitor and with what is known of scheduled transfers but for what they posted."""
    service = _service()
    for table, column in _RIGHTS:
        op.execute(f"REVOKE UPDATE ({column}) ON ledger.{table} FROM {service}")
    # A policy that checks what it shows, as one without a check of its own does.
    check = _OWN.replace("USING", "WITH CHECK", 1)
    op.execute(f"ALTER POLICY own_claim_update ON ledger.transfer_id {_OWN} {check}")
    op.execute(f"ALTER POLICY own_claim_delete ON ledger.transfer_id {_OWN}")
    schema.drop_queue(op, "ledger", name="scheduled")
    for statement in _DOWN:
        op.execute(statement)


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
