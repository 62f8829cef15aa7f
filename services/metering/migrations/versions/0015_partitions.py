"""Usage events lie in partitions by the month in which they came, and their ids in a table of their own.

The id of a receipt begins with the milliseconds of its making, so a range of ids is a range of time: rows need no
column for it, and whoever knows the receipt looks at one partition. What is stored already, and the rest of this month,
becomes one partition, `usage_event_history`. Nothing of it is written again but its primary key.
"""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0015"
down_revision = "0014"

# One row an event, whichever partition that lies in: an id counts once over all of them. Says where the event is.
_KEY = """
CREATE TABLE metering.usage_key (
  event_key   uuid             NOT NULL,
  fingerprint uuid             NOT NULL,
  receipt_id  uuid             NOT NULL,
  tenant_id   text COLLATE "C" NOT NULL
)
"""
_KEY_UPKEEP = """
ALTER TABLE metering.usage_key SET (
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.02
)
"""
_FILL_KEYS = """
INSERT INTO metering.usage_key (event_key, fingerprint, receipt_id, tenant_id)
SELECT event_key, fingerprint, receipt_id, tenant_id FROM metering.usage_event
"""
_KEY_PRIMARY = "ALTER TABLE metering.usage_key ADD PRIMARY KEY (tenant_id, event_key)"

# The smallest id of a receipt that is made at a time. A UUIDv7 begins with 48 bits of milliseconds.
_RECEIPT_FROM = """
CREATE FUNCTION metering.receipt_from(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT rpad(lpad(to_hex((extract(epoch FROM p_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$
"""

_SETTINGS = "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02"
_PARTITION_INDEXES = (
    "ALTER TABLE metering.{0} ADD PRIMARY KEY (tenant_id, receipt_id, event_key)",
    "CREATE INDEX {0}_by_time ON metering.{0} (tenant_id, org_id, sku, event_time)",
)

# A table is made and attached then, so ingest goes on meanwhile. A month that has rows in the rest takes them along, as
# long as they are few; else it stays there, and works. Nobody reads a partition by its own name, so nobody has a right
# on one.
_MAKE_MONTHS = f"""
CREATE FUNCTION metering.make_months(p_from timestamptz, p_months integer, p_rows_max integer DEFAULT 50000)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
  v_made integer := 0;
  v_start timestamptz;
  v_first uuid;
  v_until uuid;
  v_name text;
  v_found bigint;
BEGIN
  IF p_months NOT BETWEEN 1 AND 24 THEN
    RAISE EXCEPTION 'months must be 1 to 24, not %', p_months;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('metering.partitions', 0));
  FOR v_month IN 0 .. p_months - 1 LOOP
    v_start := date_trunc('month', p_from, 'UTC') + make_interval(months => v_month);
    v_first := metering.receipt_from(v_start);
    v_until := metering.receipt_from(date_trunc('month', p_from, 'UTC') + make_interval(months => v_month + 1));
    CONTINUE WHEN EXISTS (SELECT FROM metering.usage_partitions() AS p
                           WHERE p.first_id < v_until AND p.until_id > v_first);
    SELECT count(*) INTO v_found
      FROM (SELECT FROM metering.usage_event_rest WHERE receipt_id >= v_first AND receipt_id < v_until
             LIMIT p_rows_max + 1) AS stray;
    CONTINUE WHEN v_found > p_rows_max;
    v_name := 'usage_event' || to_char(v_start AT TIME ZONE 'UTC', '"_y"FMYYYY"m"MM');
    EXECUTE format('CREATE TABLE metering.%I (LIKE metering.usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
                   ' WITH ({_SETTINGS})', v_name);
    EXECUTE format('ALTER TABLE metering.%I ADD CONSTRAINT %I PRIMARY KEY (tenant_id, receipt_id, event_key)',
                   v_name, v_name || '_pkey');
    EXECUTE format('CREATE INDEX %I ON metering.%I (tenant_id, org_id, sku, event_time)', v_name || '_by_time', v_name);
    EXECUTE format('ALTER TABLE metering.%I ENABLE ROW LEVEL SECURITY', v_name);
    IF v_found > 0 THEN
      LOCK TABLE metering.usage_event_rest IN ACCESS EXCLUSIVE MODE;
      EXECUTE format('WITH gone AS (DELETE FROM metering.usage_event_rest WHERE receipt_id >= $1 AND receipt_id < $2'
                     ' RETURNING *) INSERT INTO metering.%I SELECT * FROM gone', v_name) USING v_first, v_until;
    END IF;
    EXECUTE format('ALTER TABLE metering.usage_event ATTACH PARTITION metering.%I FOR VALUES FROM (%L) TO (%L)',
                   v_name, v_first, v_until);
    v_made := v_made + 1;
  END LOOP;
  RETURN v_made;
END
$$
"""
# The oldest first; the one that takes the rest has no bounds and is not told of.
_PARTITIONS = """
CREATE FUNCTION metering.usage_partitions(OUT name text, OUT first_id uuid, OUT until_id uuid) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.relname, coalesce((regexp_match(b.bound, 'FROM \\(''([^'']+)''\\)'))[1],
                             '00000000-0000-0000-0000-000000000000')::uuid,
         (regexp_match(b.bound, 'TO \\(''([^'']+)''\\)'))[1]::uuid
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
   CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
   WHERE i.inhparent = 'metering.usage_event'::regclass AND b.bound <> 'DEFAULT'
   ORDER BY 3
$$
"""

_PARTITIONED = """
CREATE TABLE metering.usage_event (LIKE metering.usage_event_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
PARTITION BY RANGE (receipt_id)
"""
_INDEXES = (
    "ALTER TABLE metering.usage_event ADD PRIMARY KEY (tenant_id, receipt_id, event_key)",
    "CREATE INDEX usage_event_by_time ON metering.usage_event (tenant_id, org_id, sku, event_time)",
)
_REST = (
    "CREATE TABLE metering.usage_event_rest (LIKE metering.usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
    f" WITH ({_SETTINGS})",
    *(statement.format("usage_event_rest") for statement in _PARTITION_INDEXES),
    "ALTER TABLE metering.usage_event_rest ENABLE ROW LEVEL SECURITY",
)
# Ids that are not of a time are beyond all months.
_MOVE_BEYOND = """
WITH gone AS (
    DELETE FROM metering.usage_event_history
     WHERE receipt_id >= metering.receipt_from(date_trunc('month', now(), 'UTC') + interval '1 month')
 RETURNING *
)
INSERT INTO metering.usage_event_rest SELECT * FROM gone
"""
_ATTACH = """
DO $$ BEGIN
  EXECUTE format('ALTER TABLE metering.usage_event ATTACH PARTITION metering.usage_event_history'
                 ' FOR VALUES FROM (MINVALUE) TO (%L)',
                 metering.receipt_from(date_trunc('month', now(), 'UTC') + interval '1 month'));
END $$
"""


def upgrade() -> None:
    """Give ids their table, and make what is stored the first partition."""
    op.execute(_KEY)
    op.execute(_KEY_UPKEEP)
    op.execute(_FILL_KEYS)
    op.execute(_KEY_PRIMARY)
    schema.protect(op, "metering", "usage_key", privileges=schema.APPEND_ONLY)
    op.execute(
        "ALTER TABLE metering.event_version DROP CONSTRAINT event_version_tenant_id_event_key_fkey"
    )
    op.execute(
        "ALTER TABLE metering.event_version"
        " ADD FOREIGN KEY (tenant_id, event_key) REFERENCES metering.usage_key"
    )
    for statement in (
        "ALTER TABLE metering.usage_event RENAME TO usage_event_history",
        "DROP INDEX metering.usage_event_by_receipt",
        "ALTER TABLE metering.usage_event_history DROP CONSTRAINT usage_event_pkey,"
        " ADD PRIMARY KEY (tenant_id, receipt_id, event_key)",
        "ALTER INDEX metering.usage_event_by_time RENAME TO usage_event_history_by_time",
        "DROP POLICY tenant ON metering.usage_event_history",
        f"REVOKE ALL ON metering.usage_event_history FROM {_service()}",
        _PARTITIONED,
        *_INDEXES,
        *_REST,
        _RECEIPT_FROM,
        _PARTITIONS,
        _MAKE_MONTHS,
        _MOVE_BEYOND,
        _ATTACH,
        "ALTER TABLE metering.usage_event ATTACH PARTITION metering.usage_event_rest DEFAULT",
    ):
        op.execute(statement)
    schema.protect(op, "metering", "usage_event", privileges=schema.APPEND_ONLY)
    schema.grant_function(op, "metering.make_months(timestamptz, integer, integer)")
    schema.grant_function(op, "metering.usage_partitions()")
    op.execute("SELECT metering.make_months(now() + interval '1 month', 3)")


_PLAIN = (
    "ALTER TABLE metering.usage_event RENAME TO usage_event_partitioned",
    "ALTER INDEX metering.usage_event_by_time RENAME TO usage_event_partitioned_by_time",
    "ALTER INDEX metering.usage_event_pkey RENAME TO usage_event_partitioned_pkey",
    "CREATE TABLE metering.usage_event"
    " (LIKE metering.usage_event_partitioned INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
    f" WITH ({_SETTINGS})",
    "INSERT INTO metering.usage_event SELECT * FROM metering.usage_event_partitioned",
    "ALTER TABLE metering.usage_event ADD PRIMARY KEY (tenant_id, event_key)",
    "CREATE INDEX usage_event_by_time ON metering.usage_event (tenant_id, org_id, sku, event_time)",
    "CREATE INDEX usage_event_by_receipt ON metering.usage_event (tenant_id, receipt_id)",
    "ALTER TABLE metering.event_version DROP CONSTRAINT event_version_tenant_id_event_key_fkey",
    "ALTER TABLE metering.event_version"
    " ADD FOREIGN KEY (tenant_id, event_key) REFERENCES metering.usage_event",
    "DROP FUNCTION metering.make_months(timestamptz, integer, integer)",
    "DROP FUNCTION metering.usage_partitions()",
    "DROP TABLE metering.usage_event_partitioned",
    "DROP FUNCTION metering.receipt_from(timestamptz)",
    "DROP TABLE metering.usage_key",
)


def downgrade() -> None:
    """Put all events into one table again."""
    for statement in _PLAIN:
        op.execute(statement)
    schema.protect(op, "metering", "usage_event", privileges=schema.APPEND_ONLY)


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
