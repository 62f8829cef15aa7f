"""Accounts, balances, transfer ids, transfers and entries."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# Ids that tenants bring sort by bytes, so that Postgres and Python lock them in the same order.
_ACCOUNT = """
CREATE TABLE ledger.account (
  tenant_id                      text        NOT NULL,
  account_id                     text        COLLATE "C" NOT NULL,
  currency_code                  text        NOT NULL,
  type                           smallint    NOT NULL CHECK (type BETWEEN 1 AND 5),
  debits_must_not_exceed_credits boolean     NOT NULL,
  credits_must_not_exceed_debits boolean     NOT NULL,
  closed                         boolean     NOT NULL,
  owner                          text        NOT NULL,
  metadata                       jsonb       NOT NULL,
  created_at                     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, account_id),
  CHECK (NOT (debits_must_not_exceed_credits AND credits_must_not_exceed_debits))
)
"""
_ACCOUNT_BY_OWNER = "CREATE INDEX account_by_owner ON ledger.account (tenant_id, owner, account_id)"

# Apart from the account because it is rewritten with every batch: no index on what changes and half of each page
# free, so that updates stay on their page (HOT). What a posting decides by is copied here: one locked row tells all.
_BALANCE = """
CREATE TABLE ledger.balance (
  tenant_id                      text        NOT NULL,
  account_id                     text        COLLATE "C" NOT NULL,
  currency_code                  text        NOT NULL,
  type                           smallint    NOT NULL,
  debits_must_not_exceed_credits boolean     NOT NULL,
  credits_must_not_exceed_debits boolean     NOT NULL,
  closed                         boolean     NOT NULL,
  debits_posted                  bigint      NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
  credits_posted                 bigint      NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
  last_seq                       bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
  updated_at                     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, account_id),
  CHECK (NOT debits_must_not_exceed_credits OR debits_posted <= credits_posted),
  CHECK (NOT credits_must_not_exceed_debits OR credits_posted <= debits_posted)
) WITH (fillfactor = 50)
"""

# One row for every id that was decided on, posted (result 1) or burnt (the refusal), so that a retry gets its answer
# for ever. Never partitioned: an id is unique over all time.
_TRANSFER_ID = """
CREATE TABLE ledger.transfer_id (
  tenant_id   text     NOT NULL,
  transfer_id uuid     NOT NULL,
  fingerprint bytea    NOT NULL CHECK (octet_length(fingerprint) = 16),
  result      smallint NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id)
)
"""

_TRANSFER = """
CREATE TABLE ledger.transfer (
  tenant_id         text        NOT NULL,
  transfer_id       uuid        NOT NULL,
  batch_no          bigint      NOT NULL,
  position          integer     NOT NULL,
  debit_account_id  text        COLLATE "C" NOT NULL,
  credit_account_id text        COLLATE "C" NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      NOT NULL CHECK (amount_minor > 0),
  code              integer     NOT NULL,
  kind              smallint    NOT NULL,
  linked            boolean     NOT NULL,
  effective_at      timestamptz NOT NULL,
  recorded_at       timestamptz NOT NULL,
  metadata          jsonb       NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id),
  CHECK (debit_account_id <> credit_account_id)
)
"""

# amount_minor is positive for a debit and negative for a credit; balance_after_minor is debits minus credits.
_ENTRY = """
CREATE TABLE ledger.entry (
  tenant_id           text   NOT NULL,
  account_id          text   COLLATE "C" NOT NULL,
  seq                 bigint NOT NULL CHECK (seq > 0),
  transfer_id         uuid   NOT NULL,
  amount_minor        bigint NOT NULL CHECK (amount_minor <> 0),
  balance_after_minor bigint NOT NULL,
  PRIMARY KEY (tenant_id, account_id, seq)
)
"""

_BATCH_NO = "CREATE SEQUENCE ledger.batch_no AS bigint"


def upgrade() -> None:
    """Create the tables. What is posted can only be added to: services may not update or delete it."""
    for statement in (
        _ACCOUNT,
        _ACCOUNT_BY_OWNER,
        _BALANCE,
        _TRANSFER_ID,
        _TRANSFER,
        _ENTRY,
        _BATCH_NO,
    ):
        op.execute(statement)
    schema.protect(op, "ledger", "account", privileges=schema.APPEND_ONLY)
    schema.protect(op, "ledger", "balance", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "ledger", "transfer_id")
    schema.protect(op, "ledger", "transfer", privileges=schema.APPEND_ONLY)
    schema.protect(op, "ledger", "entry", privileges=schema.APPEND_ONLY)
    service = schema.role_names(op).service
    op.execute(f'GRANT USAGE ON SEQUENCE ledger.batch_no TO "{service}"')


def downgrade() -> None:
    """Drop the tables with all that is posted."""
    op.execute("DROP SEQUENCE ledger.batch_no")
    for table in ("entry", "transfer", "transfer_id", "balance", "account"):
        op.execute(f"DROP TABLE ledger.{table}")
