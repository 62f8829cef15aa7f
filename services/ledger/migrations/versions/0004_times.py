"""Both times, the other account and the currency on the entry itself; what transfers are for; partitions by month."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"

# Partitioned, so that what is old can be kept apart and reads of a time look at its months only. An id is unique over
# all of them by its row in transfer_id, which also says in which month it is.
_TRANSFER = """
CREATE TABLE ledger.transfer (
  tenant_id         text        NOT NULL,
  transfer_id       uuid        NOT NULL,
  batch_no          bigint      NOT NULL,
  position          integer     NOT NULL,
  debit_account_id  text        COLLATE "C" NOT NULL,
  credit_account_id text        COLLATE "C" NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      NOT NULL,
  code              integer     NOT NULL,
  kind              smallint    NOT NULL,
  linked            boolean     NOT NULL,
  effective_at      timestamptz NOT NULL,
  recorded_at       timestamptz NOT NULL,
  metadata          jsonb       NOT NULL,
  pending_id        uuid,
  timeout_ms        bigint      NOT NULL DEFAULT 0,
  flags             smallint    NOT NULL DEFAULT 0,
  asked_all         boolean     NOT NULL DEFAULT false,
  reverses_id       uuid,
  reference_kind    text        COLLATE "C",
  reference_id      text        COLLATE "C",
  reference_part    text        COLLATE "C",
  posting_id        uuid,
  PRIMARY KEY (tenant_id, transfer_id, recorded_at),
  CHECK (debit_account_id <> credit_account_id),
  CHECK (amount_minor > 0 OR amount_minor = 0 AND kind IN (2, 4)),
  CHECK ((reference_kind IS NULL) = (reference_id IS NULL) AND (reference_kind IS NULL) = (reference_part IS NULL))
) PARTITION BY RANGE (recorded_at)
"""
_TRANSFER_COLUMNS = (
    "tenant_id, transfer_id, batch_no, position, debit_account_id, credit_account_id, currency_code, amount_minor,"
    " code, kind, linked, effective_at, recorded_at, metadata, pending_id, timeout_ms, flags, asked_all, reverses_id"
)

# amount_minor is positive for a debit and negative for a credit; balance_after_minor is debits minus credits.
_ENTRY = """
CREATE TABLE ledger.entry (
  tenant_id           text        NOT NULL,
  account_id          text        COLLATE "C" NOT NULL,
  seq                 bigint      NOT NULL CHECK (seq > 0),
  transfer_id         uuid        NOT NULL,
  amount_minor        bigint      NOT NULL CHECK (amount_minor <> 0),
  balance_after_minor bigint      NOT NULL,
  counter_account_id  text        COLLATE "C" NOT NULL,
  currency_code       text        NOT NULL,
  code                integer     NOT NULL,
  recorded_at         timestamptz NOT NULL,
  effective_at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, account_id, seq, recorded_at)
) PARTITION BY RANGE (recorded_at)
"""

# Months that do not exist yet, and times that nobody expected, go to the partition that takes the rest.
_REST = "CREATE TABLE ledger.{table}_rest PARTITION OF ledger.{table} DEFAULT"

# Attached rather than made in place: postings go on meanwhile. A month that has rows in the rest stays there. Nobody
# reads a partition by its own name, so nobody has a right on one.
_MAKE_MONTHS = """
CREATE FUNCTION ledger.make_months(p_from timestamptz, p_months integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
  v_made integer := 0;
  v_start timestamptz;
  v_end timestamptz;
  v_name text;
  v_table text;
  v_in_rest boolean;
BEGIN
  IF p_months NOT BETWEEN 1 AND 24 THEN
    RAISE EXCEPTION 'months must be 1 to 24, not %', p_months;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger.make_months', 0));
  FOR v_month IN 0 .. p_months - 1 LOOP
    v_start := date_trunc('month', p_from, 'UTC') + make_interval(months => v_month);
    v_end := date_trunc('month', p_from, 'UTC') + make_interval(months => v_month + 1);
    FOREACH v_table IN ARRAY ARRAY['transfer', 'entry'] LOOP
      v_name := v_table || to_char(v_start AT TIME ZONE 'UTC', '"_y"FMYYYY"m"MM');
      CONTINUE WHEN to_regclass(format('ledger.%I', v_name)) IS NOT NULL;
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE recorded_at >= $1 AND recorded_at < $2)',
                     v_table || '_rest') INTO v_in_rest USING v_start, v_end;
      CONTINUE WHEN v_in_rest;
      EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.%I INCLUDING ALL)', v_name, v_table);
      EXECUTE format('ALTER TABLE ledger.%I ENABLE ROW LEVEL SECURITY', v_name);
      EXECUTE format('ALTER TABLE ledger.%I ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                     v_table, v_name, v_start, v_end);
      v_made := v_made + 1;
    END LOOP;
  END LOOP;
  RETURN v_made;
END
$$
"""

_INDEXES = (
    # Only charges (2001) and refunds (2002) of payments are in it: all other postings cost nothing more.
    "CREATE INDEX transfer_of_payment ON ledger.transfer (tenant_id, (metadata ->> 'payment_id'))"
    " WHERE code IN (2001, 2002)",
    # A reversal's id follows from what it reverses, so there is one at most.
    "CREATE INDEX transfer_reverses ON ledger.transfer (tenant_id, reverses_id) WHERE reverses_id IS NOT NULL",
    "CREATE INDEX transfer_by_reference ON ledger.transfer"
    " (tenant_id, reference_kind, reference_id, batch_no, position) WHERE reference_id IS NOT NULL",
)

_OLD_MONTHS = """
SELECT ledger.make_months(m, 1)
  FROM generate_series(date_trunc('month', (SELECT min(recorded_at) FROM ledger.transfer_0003), 'UTC'),
                       (SELECT max(recorded_at) FROM ledger.transfer_0003), interval '1 month') AS m
"""

# Months of the books so far, as long as they are not far apart; what is beyond goes to the rest.
_MOVE_UP = (
    f"{_OLD_MONTHS.rstrip()} LIMIT 240",
    "SELECT ledger.make_months(now(), 4)",
    f"INSERT INTO ledger.transfer ({_TRANSFER_COLUMNS}) SELECT {_TRANSFER_COLUMNS} FROM ledger.transfer_0003",
    "UPDATE ledger.transfer_id i SET recorded_at = t.recorded_at FROM ledger.transfer_0003 t"
    " WHERE t.tenant_id = i.tenant_id AND t.transfer_id = i.transfer_id",
    "INSERT INTO ledger.entry SELECT e.tenant_id, e.account_id, e.seq, e.transfer_id, e.amount_minor,"
    " e.balance_after_minor, CASE WHEN e.amount_minor > 0 THEN t.credit_account_id ELSE t.debit_account_id END,"
    " t.currency_code, t.code, t.recorded_at, t.effective_at"
    " FROM ledger.entry_0003 e JOIN ledger.transfer_0003 t"
    " ON t.tenant_id = e.tenant_id AND t.transfer_id = e.transfer_id",
    "DROP TABLE ledger.entry_0003",
    "DROP TABLE ledger.transfer_0003",
)

_OLD_TRANSFER = """
CREATE TABLE ledger.transfer (
  tenant_id         text        NOT NULL,
  transfer_id       uuid        NOT NULL,
  batch_no          bigint      NOT NULL,
  position          integer     NOT NULL,
  debit_account_id  text        COLLATE "C" NOT NULL,
  credit_account_id text        COLLATE "C" NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      NOT NULL,
  code              integer     NOT NULL,
  kind              smallint    NOT NULL,
  linked            boolean     NOT NULL,
  effective_at      timestamptz NOT NULL,
  recorded_at       timestamptz NOT NULL,
  metadata          jsonb       NOT NULL,
  pending_id        uuid,
  timeout_ms        bigint      NOT NULL DEFAULT 0,
  flags             smallint    NOT NULL DEFAULT 0,
  asked_all         boolean     NOT NULL DEFAULT false,
  reverses_id       uuid,
  PRIMARY KEY (tenant_id, transfer_id),
  CHECK (debit_account_id <> credit_account_id),
  CONSTRAINT transfer_amount_minor_check CHECK (amount_minor > 0 OR amount_minor = 0 AND kind IN (2, 4))
)
"""
_OLD_ENTRY = """
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
_OLD_INDEXES = (
    "CREATE INDEX transfer_of_payment ON ledger.transfer (tenant_id, (metadata ->> 'payment_id'))"
    " WHERE code IN (2001, 2002)",
    "CREATE UNIQUE INDEX transfer_reverses ON ledger.transfer (tenant_id, reverses_id) WHERE reverses_id IS NOT NULL",
)
_MOVE_DOWN = (
    f"INSERT INTO ledger.transfer ({_TRANSFER_COLUMNS}) SELECT {_TRANSFER_COLUMNS} FROM ledger.transfer_0004",
    "INSERT INTO ledger.entry SELECT tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor"
    " FROM ledger.entry_0004",
    "DROP TABLE ledger.entry_0004",
    "DROP TABLE ledger.transfer_0004",
)


def upgrade() -> None:
    """Move the books into partitioned tables, and give each entry what its transfer says."""
    _step_aside("0003", ("transfer_of_payment", "transfer_reverses"))
    op.execute("ALTER TABLE ledger.transfer_id ADD COLUMN recorded_at timestamptz")
    for statement in (_TRANSFER, _ENTRY, *_INDEXES, _MAKE_MONTHS):
        op.execute(statement)
    for table in ("transfer", "entry"):
        op.execute(_REST.format(table=table))
        op.execute(f"ALTER TABLE ledger.{table}_rest ENABLE ROW LEVEL SECURITY")
    for statement in _MOVE_UP:
        op.execute(statement)
    _protect()
    schema.grant_function(op, "ledger.make_months(timestamptz, integer)")


def downgrade() -> None:
    """Move them back. What the release before did not know of a transfer, its reference, is lost."""
    op.execute("DROP FUNCTION ledger.make_months(timestamptz, integer)")
    _step_aside("0004", ("transfer_of_payment", "transfer_reverses", "transfer_by_reference"))
    for statement in (_OLD_TRANSFER, _OLD_ENTRY, *_MOVE_DOWN, *_OLD_INDEXES):
        op.execute(statement)
    op.execute("ALTER TABLE ledger.transfer_id DROP COLUMN recorded_at")
    _protect()


def _step_aside(suffix: str, indexes: tuple[str, ...]) -> None:
    for table in ("transfer", "entry"):
        op.execute(f"ALTER TABLE ledger.{table} RENAME TO {table}_{suffix}")
        op.execute(f"ALTER INDEX ledger.{table}_pkey RENAME TO {table}_{suffix}_pkey")
    for index in indexes:
        op.execute(f"DROP INDEX ledger.{index}")


def _protect() -> None:
    for table in ("transfer", "entry"):
        schema.protect(op, "ledger", table, privileges=schema.APPEND_ONLY)
