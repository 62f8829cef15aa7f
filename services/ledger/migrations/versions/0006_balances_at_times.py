"""Sums by day and month for balances at any time, closed periods, and limits that hold at every instant."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0006"
down_revision = "0005"

# Debits and credits of an account by the day, or the month (grain 2 and 1), in which they take effect and in which they
# were recorded, UTC. Built behind the postings: a backdated one adds to its own day and month and touches none that
# follow. `first_seq` and `last_seq` say among which entries they are.
_ACCOUNT_DAY = """
CREATE TABLE ledger.account_day (
  tenant_id     text     NOT NULL,
  account_id    text     COLLATE "C" NOT NULL,
  grain         smallint NOT NULL CHECK (grain IN (1, 2)),
  effective_day date     NOT NULL,
  recorded_day  date     NOT NULL,
  debits        bigint   NOT NULL CHECK (debits >= 0),
  credits       bigint   NOT NULL CHECK (credits >= 0),
  first_seq     bigint   NOT NULL CHECK (first_seq > 0),
  last_seq      bigint   NOT NULL CHECK (last_seq >= first_seq),
  PRIMARY KEY (tenant_id, grain, account_id, effective_day, recorded_day)
)
"""
_BY_RECORDED_DAY = (
    "CREATE INDEX account_day_recorded ON ledger.account_day"
    " (tenant_id, account_id, recorded_day, effective_day) WHERE grain = 2"
)

# How far the sums of an account go: entries up to this one are in them, and none behind it is. The entries of an
# account are numbered under its lock, so whoever sees one sees all before it.
_ACCOUNT_MARK = """
CREATE TABLE ledger.account_mark (
  tenant_id  text   NOT NULL,
  account_id text   COLLATE "C" NOT NULL,
  summed_seq bigint NOT NULL CHECK (summed_seq >= 0),
  PRIMARY KEY (tenant_id, account_id)
)
"""

# A few accounts at a time, in the order of their key, of all tenants: which of them have entries that are in no sum
# yet. The last one that was looked at is named too, whether it has or not: there the next call goes on.
_UNSUMMED_ACCOUNTS = """
CREATE FUNCTION ledger.unsummed_accounts(
  p_tenant text, p_account text, p_accounts integer, OUT tenant_id text, OUT account_id text, OUT is_behind boolean
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH looked_at AS MATERIALIZED (
    SELECT b.tenant_id, b.account_id, b.last_seq FROM ledger.balance b
     WHERE (b.tenant_id, b.account_id) > (p_tenant, p_account COLLATE "C")
     ORDER BY b.tenant_id, b.account_id LIMIT p_accounts
  ), judged AS (
    SELECT l.tenant_id, l.account_id, l.last_seq > coalesce(m.summed_seq, 0) AS is_behind,
           lead(l.account_id) OVER (ORDER BY l.tenant_id, l.account_id) IS NULL AS is_last
      FROM looked_at l LEFT JOIN ledger.account_mark m USING (tenant_id, account_id)
  )
  SELECT j.tenant_id, j.account_id, j.is_behind FROM judged j WHERE j.is_behind OR j.is_last
   ORDER BY j.tenant_id, j.account_id;
END
"""
_SIGNATURE = "ledger.unsummed_accounts(text, text, integer)"

_PERIOD = """
CREATE TABLE ledger.period (
  tenant_id      text        NOT NULL,
  currency_code  text        COLLATE "C" NOT NULL,
  closed_through timestamptz,
  reason         text        NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, currency_code)
)
"""

# Read without the rows: what a day's entries add up to, and what takes effect after an instant; and lists by that time.
_BY_EFFECTIVE_AT = (
    "CREATE INDEX entry_by_effective ON ledger.entry (tenant_id, account_id, effective_at, seq)"
    " INCLUDE (amount_minor, recorded_at)"
)

_UP = (
    _ACCOUNT_DAY,
    _BY_RECORDED_DAY,
    _ACCOUNT_MARK,
    _UNSUMMED_ACCOUNTS,
    _PERIOD,
    _BY_EFFECTIVE_AT,
    # With a default: a process of the release before can go on.
    "ALTER TABLE ledger.account ADD COLUMN limits_at_every_instant boolean NOT NULL DEFAULT false",
    "ALTER TABLE ledger.balance ADD COLUMN limits_at_every_instant boolean NOT NULL DEFAULT false",
)
_DOWN = (
    # The rule that burnt these ids is not known any more; the nearest is: the account is closed.
    "UPDATE ledger.transfer_id SET result = 60 WHERE result = 86",
    "ALTER TABLE ledger.balance DROP COLUMN limits_at_every_instant",
    "ALTER TABLE ledger.account DROP COLUMN limits_at_every_instant",
    "DROP INDEX ledger.entry_by_effective",
    "DROP TABLE ledger.period",
    f"DROP FUNCTION {_SIGNATURE}",
    "DROP TABLE ledger.account_mark",
    "DROP TABLE ledger.account_day",
)
_WRITTEN = ("SELECT", "INSERT", "UPDATE")


def upgrade() -> None:
    """Make the tables, empty: the entries that there are get their sums in the background."""
    for statement in _UP:
        op.execute(statement)
    for table in ("account_day", "account_mark", "period"):
        schema.protect(op, "ledger", table, privileges=_WRITTEN)
    schema.grant_function(op, _SIGNATURE)


def downgrade() -> None:
    """Drop them. What was closed is open for the release before, which knows no periods."""
    for statement in _DOWN:
        op.execute(statement)
