"""Partitions of the event log by day, pages of the sequencer, and what keeps the tables small.

Event and inbox are cut by the day (UTC) on which the event was recorded, so that the days of both go together. What
0002 wrote, and the rest of today, becomes one partition, `history`; days are made ahead by
`mesh.make_day` and go by `mesh.retire`. Both run as the owner and can be called by the relay only.
"""

from __future__ import annotations

from importlib import import_module

from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"

# An event's proof of having been handled lies in the partition of the event's own day, and goes with it.
_INBOX = """
CREATE TABLE mesh.inbox (
  tenant_id   text        NOT NULL,
  consumer    text        NOT NULL,
  event_id    text        NOT NULL,
  generation  int         NOT NULL,
  recorded_at timestamptz NOT NULL,
  handled_at  timestamptz NOT NULL DEFAULT transaction_timestamp(),
  PRIMARY KEY (tenant_id, consumer, event_id, generation, recorded_at)
) PARTITION BY RANGE (recorded_at)
"""

# Who reads: what a process says of its reaction at its start, for those that show and replay.
_CONSUMER = """
CREATE TABLE mesh.consumer (
  consumer   text        PRIMARY KEY,
  replayable boolean     NOT NULL DEFAULT true,
  parks_keys boolean     NOT NULL DEFAULT true,
  seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

# What a new reader is still to be given of the feed up to its first position. Its lanes stay shut meanwhile.
_BACK_FILL = """
CREATE TABLE mesh.back_fill (
  back_fill_id   bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  consumer       text    NOT NULL,
  texts          text[]  NOT NULL,
  prefixes       bool[]  NOT NULL,
  last_position  bigint  NOT NULL,
  after_tenant   text    NOT NULL DEFAULT '',
  after_position bigint  NOT NULL DEFAULT 0
)
"""

# An interval that is too long for one tick: its pages, in the order of seq. xid_min and xid_max tell where to
# look; they leave out the transactions that were already running at the interval's start, which are looked up singly.
_TICK_PAGE = """
CREATE TABLE mesh.tick_page (
  seq_min bigint PRIMARY KEY,
  seq_max bigint NOT NULL,
  xid_min xid8,
  xid_max xid8,
  events  int    NOT NULL
)
"""

# Tables whose rows come and go: vacuum by a count of dead rows, not by a share of a size that swings between
# nothing and millions; without pauses, because it falls behind otherwise; never cutting the file's end off,
# which needs a lock that stops everybody.
_VACUUM = {
    "delivery": "vacuum_truncate = false",
    # A renewal each few seconds and a new epoch each lease, of few rows: small means fast to search.
    "lane_lease": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false",
    # One row, written by every tick. Its page prunes itself as long as nobody holds an old snapshot.
    "tick": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, "
    "autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false",
    "tick_page": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, vacuum_truncate = false",
    # Only appended to, until a day goes: readers want pages known to be visible soon, and rows that were
    # frozen when they were first vacuumed are never written again.
    "feed": "autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02, "
    "autovacuum_freeze_min_age = 0",
}
# Days of event and inbox are only appended to: the same, a day at a time.
_DAY_SETTINGS = "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0"

_PARTITIONS = """
CREATE FUNCTION mesh.partitions(
  parent regclass, OUT name text, OUT from_at timestamptz, OUT until_at timestamptz
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $body$
  -- The default partition has no bounds.
  SELECT c.relname, coalesce((regexp_match(b.bound, $$FROM \\('([^']+)'\\)$$))[1], '-infinity')::timestamptz,
         (regexp_match(b.bound, $$TO \\('([^']+)'\\)$$))[1]::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
   CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
   WHERE i.inhparent = parent AND b.bound <> 'DEFAULT'
   ORDER BY 3
$body$
"""

# A table is made first and attached then: that takes no lock that producers of other days would wait for. What
# lies in the default partition is moved, a bounded number of rows. The columns are copied with seq and xid, so
# the sequencer takes a moved row for what it is.
_MAKE_DAY = """
CREATE FUNCTION mesh.make_day(day date, rows_max int DEFAULT 50000) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '500ms' AS $body$
DECLARE
  begins timestamptz := day::timestamp AT TIME ZONE 'UTC';
  ends timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
  parent text;
  made text;
  found bigint;
  moved bigint := 0;
  result text := 'stood';
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('tollmesh.partitions', 0)) THEN
    RETURN 'busy';
  END IF;
  FOREACH parent IN ARRAY ARRAY['event', 'inbox'] LOOP
    CONTINUE WHEN EXISTS (
      SELECT FROM mesh.partitions(format('mesh.%I', parent)::regclass) p
       WHERE p.from_at < ends AND p.until_at > begins);
    EXECUTE format('SELECT count(*) FROM (SELECT FROM mesh.%I WHERE recorded_at >= $1 AND recorded_at < $2 LIMIT $3) r',
                   parent || '_default') INTO found USING begins, ends, rows_max + 1;
    IF found > rows_max THEN
      -- Moving them would hold up producers for long: they stay where they are, and work.
      RETURN 'skipped';
    END IF;
    made := parent || '_' || to_char(day, 'YYYYMMDD');
    EXECUTE format('CREATE TABLE mesh.%I (LIKE mesh.%I INCLUDING ALL EXCLUDING IDENTITY) WITH ({settings})',
                   made, parent);
    -- Access is by the parent's policies; a partition by itself is closed to all but its owner.
    EXECUTE format('ALTER TABLE mesh.%I ENABLE ROW LEVEL SECURITY', made);
    EXECUTE format('LOCK TABLE mesh.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH gone AS (DELETE FROM mesh.%I WHERE recorded_at >= $1 AND recorded_at < $2 RETURNING *) '
                   'INSERT INTO mesh.%I SELECT * FROM gone', parent || '_default', made) USING begins, ends;
    GET DIAGNOSTICS found = ROW_COUNT;
    moved := moved + found;
    EXECUTE format('ALTER TABLE mesh.%I ATTACH PARTITION mesh.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, made, begins, ends);
    result := 'made';
  END LOOP;
  RETURN CASE WHEN moved > 0 THEN 'moved' ELSE result END;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN 'busy';
END
$body$
"""

# One bounded step of letting an old day go: first its feed rows, so that nobody finds what is about to vanish, then the
# day itself. Who makes deliveries out of the feed holds the same lock, shared. A day of which something is still to
# be handled stays, whole; later ones go. The drop waits for every transaction that has touched the log, and who comes
# after it waits behind it, hence the short limit.
_RETIRE = """
CREATE FUNCTION mesh.retire(
  before timestamptz, rows_max int DEFAULT 20000, OUT step text, OUT name text, OUT removed bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET lock_timeout = '100ms' SET enable_seqscan = off AS $body$
DECLARE
  part record;
  newest xid8;
  reason text;
  tenant text := '';
  gone bigint;
BEGIN
  removed := 0;
  IF NOT pg_try_advisory_xact_lock(hashtextextended('tollmesh.partitions', 0))
     OR NOT pg_try_advisory_xact_lock(hashtextextended('tollmesh.feed', 0)) THEN
    step := 'busy';
    RETURN;
  END IF;
  step := 'done';
  FOR part IN SELECT p.* FROM mesh.partitions('mesh.event'::regclass) p
               WHERE p.until_at <= before ORDER BY p.until_at LOOP
    -- Every transaction that wrote into it has ended before the last tick, whose interval is used up.
    EXECUTE format('SELECT xid FROM mesh.%I ORDER BY xid DESC LIMIT 1', part.name) INTO newest;
    reason := CASE
      WHEN newest >= (SELECT pg_snapshot_xmin(t.snapshot) FROM mesh.tick t WHERE t.feed = 'main') THEN 'unsequenced'
      WHEN EXISTS (SELECT FROM mesh.back_fill) THEN 'back-fill'
      WHEN EXISTS (SELECT FROM mesh.delivery d
                    WHERE d.recorded_at >= part.from_at AND d.recorded_at < part.until_at) THEN 'unhandled'
      WHEN EXISTS (SELECT FROM mesh.dead_letter l
                    WHERE l.recorded_at >= part.from_at AND l.recorded_at < part.until_at) THEN 'dead-letters'
    END;
    EXIT WHEN reason IS NULL;
    IF step = 'done' THEN
      step := reason;
      name := part.name;
    END IF;
  END LOOP;
  IF reason IS NOT NULL OR part IS NULL THEN
    RETURN;
  END IF;
  name := part.name;
  LOOP
    SELECT f.tenant_id INTO tenant FROM mesh.feed f WHERE f.tenant_id > tenant ORDER BY f.tenant_id LIMIT 1;
    EXIT WHEN NOT FOUND OR removed >= rows_max;
    DELETE FROM mesh.feed WHERE ctid = ANY (ARRAY(
      SELECT f.ctid FROM mesh.feed f
       WHERE f.tenant_id = tenant AND f.recorded_at >= part.from_at AND f.recorded_at < part.until_at
       LIMIT rows_max - removed));
    GET DIAGNOSTICS gone = ROW_COUNT;
    removed := removed + gone;
  END LOOP;
  step := 'feed';
  IF removed = 0 THEN
    EXECUTE format('DROP TABLE mesh.%I', part.name);
    EXECUTE format('DROP TABLE mesh.%I', replace(part.name, 'event_', 'inbox_'));
    step := 'dropped';
  END IF;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  step := 'busy';
  removed := 0;
END
$body$
"""

# One round trip, so that a client which stops half way cannot hold the lock. VOLATILE and READ COMMITTED: each
# statement takes its own snapshot, so `cur` is younger than the lock. An interval with more than page_max events is
# cut into pages by one more look at it; it stays fixed in `target` until the last page is through, whoever
# makes the further ticks, so the order is the one that a single tick would have given.
_TICK = """
CREATE FUNCTION mesh.tick(page_max int DEFAULT 20000, OUT moved bigint, OUT last_position bigint, OUT more boolean)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  held mesh.tick;
  page mesh.tick_page;
  new_snapshot pg_snapshot;
BEGIN
  more := false;
  -- A SET clause of the function would end before the commit.
  PERFORM set_config('synchronous_commit', 'on', true);
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'a tick needs READ COMMITTED';
  END IF;
  SELECT t.* INTO held FROM mesh.tick t WHERE t.feed = 'main' FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    moved := -1;
    RETURN;
  END IF;
  IF held.system_id <> (SELECT system_identifier FROM pg_control_system()) THEN
    RAISE 'the tick row is from another cluster, whose transaction ids mean nothing here'
      USING HINT = 'drain the feed before a dump; after the restore reset mesh.tick';
  END IF;
  IF held.target IS NULL THEN
    -- All of it, when it fits into a page.
    WITH last AS MATERIALIZED (
      SELECT t.snapshot AS s, t.position AS p FROM mesh.tick t WHERE t.feed = 'main'),
    {cur},
    fresh AS MATERIALIZED (
      SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject FROM mesh.event e
       WHERE e.xid >= (SELECT pg_snapshot_xmax(s) FROM last) AND e.xid < (SELECT pg_snapshot_xmax(s) FROM cur)
         AND pg_visible_in_snapshot(e.xid, (SELECT s FROM cur))
      UNION ALL
      SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject
        FROM done JOIN mesh.event e ON e.xid = done.x
      LIMIT page_max + 1),
    fits AS MATERIALIZED (SELECT count(*) <= page_max AS yes, count(*) AS events FROM fresh),
    placed AS MATERIALIZED (
      SELECT (SELECT p FROM last) + row_number() OVER (ORDER BY f.seq) AS place,
             mesh.lane(f.tenant_id, f.key) AS lane, f.* FROM fresh f WHERE (SELECT yes FROM fits)),
    {place}
    UPDATE mesh.tick t
       SET snapshot = cur.s, position = last.p + fits.events, ticked_at = clock_timestamp()
      FROM cur, last, fits WHERE t.feed = 'main' AND fits.yes
    RETURNING fits.events, t.position, t.snapshot INTO moved, last_position, new_snapshot;
    IF FOUND THEN
      IF pg_snapshot_xmax(new_snapshot) < pg_snapshot_xmax(held.snapshot)
         OR pg_snapshot_xmin(new_snapshot) < pg_snapshot_xmin(held.snapshot) THEN
        RAISE 'the snapshot went backwards: % after %', new_snapshot, held.snapshot;
      END IF;
      RETURN;
    END IF;
    WITH last AS MATERIALIZED (SELECT t.snapshot AS s FROM mesh.tick t WHERE t.feed = 'main'),
    {cur},
    fresh AS (
      SELECT e.seq, e.xid AS ranged FROM mesh.event e
       WHERE e.xid >= (SELECT pg_snapshot_xmax(s) FROM last) AND e.xid < (SELECT pg_snapshot_xmax(s) FROM cur)
         AND pg_visible_in_snapshot(e.xid, (SELECT s FROM cur))
      UNION ALL
      SELECT e.seq, NULL FROM done JOIN mesh.event e ON e.xid = done.x),
    numbered AS (SELECT f.*, (row_number() OVER (ORDER BY f.seq) - 1) / page_max AS number FROM fresh f),
    planned AS (
      INSERT INTO mesh.tick_page (seq_min, seq_max, xid_min, xid_max, events)
      SELECT min(n.seq), max(n.seq), min(n.ranged), max(n.ranged), count(*) FROM numbered n GROUP BY n.number)
    UPDATE mesh.tick t SET target = cur.s FROM cur WHERE t.feed = 'main' RETURNING t.target INTO held.target;
  END IF;
  SELECT p.* INTO STRICT page FROM mesh.tick_page p ORDER BY p.seq_min LIMIT 1;
  WITH done AS MATERIALIZED (
    SELECT x FROM pg_snapshot_xip(held.snapshot) AS x WHERE pg_visible_in_snapshot(x, held.target)),
  fresh AS (
    SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject FROM mesh.event e
     WHERE e.xid >= page.xid_min AND e.xid <= page.xid_max AND e.seq BETWEEN page.seq_min AND page.seq_max
       AND pg_visible_in_snapshot(e.xid, held.target)
    UNION ALL
    SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject
      FROM done JOIN mesh.event e ON e.xid = done.x WHERE e.seq BETWEEN page.seq_min AND page.seq_max),
  placed AS MATERIALIZED (
    SELECT held.position + row_number() OVER (ORDER BY f.seq) AS place,
           mesh.lane(f.tenant_id, f.key) AS lane, f.* FROM fresh f),
  {place}
  SELECT count(*) INTO moved FROM placed;
  IF moved <> page.events THEN
    RAISE 'a page of the feed has % events where % were found before', moved, page.events;
  END IF;
  DELETE FROM mesh.tick_page p WHERE p.seq_min = page.seq_min;
  more := EXISTS (SELECT FROM mesh.tick_page);
  UPDATE mesh.tick t
     SET snapshot = CASE WHEN more THEN t.snapshot ELSE t.target END, target = CASE WHEN more THEN t.target END,
         position = t.position + moved, ticked_at = clock_timestamp()
   WHERE t.feed = 'main' RETURNING t.position INTO last_position;
END
$body$
"""

_CUR = """
    raw AS MATERIALIZED (SELECT pg_current_snapshot() AS s, pg_current_xact_id() AS own),
    -- A snapshot leaves out its own transaction: count it as running, else what it publishes later is lost.
    cur AS MATERIALIZED (
      SELECT CASE WHEN own >= pg_snapshot_xmax(s) THEN s ELSE
        (least(own, pg_snapshot_xmin(s))::text || ':' || pg_snapshot_xmax(s)::text || ':' ||
         (SELECT string_agg(x::text, ',' ORDER BY x)
            FROM (SELECT pg_snapshot_xip(s) AS x UNION SELECT own) AS running))::pg_snapshot END AS s
      FROM raw),
    done AS MATERIALIZED (
      SELECT x FROM last, cur, pg_snapshot_xip(last.s) AS x WHERE pg_visible_in_snapshot(x, cur.s))
""".strip()

_PLACE = """
    fed AS (
      INSERT INTO mesh.feed (tenant_id, position, event_id, recorded_at, subject, key, lane)
      SELECT n.tenant_id, n.place, n.event_id, n.recorded_at, n.subject, n.key, n.lane FROM placed n ORDER BY n.place),
    queued AS (
      INSERT INTO mesh.delivery (consumer, lane, position, tenant_id, key, event_id, recorded_at)
      SELECT s.consumer, n.lane, n.place, n.tenant_id, n.key, n.event_id, n.recorded_at
        FROM placed n
        JOIN mesh.subscription s
          ON CASE WHEN s.is_prefix THEN starts_with(n.subject, s.text) ELSE n.subject = s.text END
       ORDER BY s.consumer, n.place
      -- Two patterns of one consumer may both match.
      ON CONFLICT DO NOTHING)
""".strip()

# What lies in the default partitions because nobody made its day, and which days that would be.
_STRAYS = """
CREATE FUNCTION mesh.strays(OUT events bigint, OUT days date[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
BEGIN ATOMIC
  SELECT count(*), coalesce(array_agg(DISTINCT r.day), '{}')
    FROM ((SELECT e.recorded_at::date AS day FROM mesh.event_default e LIMIT 100000)
          UNION ALL
          (SELECT i.recorded_at::date FROM mesh.inbox_default i LIMIT 100000)) AS r;
END
"""

# Rows stay where they are: the one partition of before takes the days up to today as its bounds.
_CUT_EVENT = """
DO $body$
DECLARE
  ends timestamptz;
BEGIN
  -- Whatever the clock said that stamped the newest row.
  ends := ((greatest(now(), (SELECT max(recorded_at) FROM mesh.event)) AT TIME ZONE 'UTC')::date + 1)::timestamp
          AT TIME ZONE 'UTC';
  ALTER TABLE mesh.event DETACH PARTITION mesh.event_default;
  ALTER TABLE mesh.event_default RENAME TO event_history;
  EXECUTE format('ALTER TABLE mesh.event ATTACH PARTITION mesh.event_history FOR VALUES FROM (MINVALUE) TO (%L)', ends);
END
$body$
"""

_CUT_INBOX = """
DO $body$
DECLARE
  ends timestamptz := (SELECT until_at FROM mesh.partitions('mesh.event'::regclass));
BEGIN
  EXECUTE format('CREATE TABLE mesh.inbox_history PARTITION OF mesh.inbox FOR VALUES FROM (MINVALUE) TO (%L)', ends);
  INSERT INTO mesh.inbox (tenant_id, consumer, event_id, generation, recorded_at, handled_at)
  SELECT i.tenant_id, i.consumer, i.event_id, i.generation, e.recorded_at, i.handled_at
    FROM mesh.inbox_before i JOIN mesh.event e ON e.tenant_id = i.tenant_id AND e.event_id = i.event_id;
END
$body$
"""

# Who was being given the feed starts over under the earlier release: its subscription goes.
_FINISH = """
DO $body$
BEGIN
  WHILE (SELECT more FROM mesh.tick()) LOOP
  END LOOP;
  DELETE FROM mesh.subscription s USING mesh.back_fill b WHERE b.consumer = s.consumer;
  UPDATE mesh.lane_lease SET until_at = clock_timestamp() WHERE until_at = 'infinity';
END
$body$
"""

_ONE_EVENT = """
DO $body$
DECLARE
  part text;
BEGIN
  CREATE TABLE mesh.event_all (LIKE mesh.event INCLUDING ALL EXCLUDING IDENTITY);
  INSERT INTO mesh.event_all SELECT * FROM mesh.event;
  FOR part IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'mesh.event'::regclass LOOP
    EXECUTE 'DROP TABLE ' || part;
  END LOOP;
  ALTER TABLE mesh.event_all RENAME TO event_default;
  ALTER INDEX mesh.event_all_pkey RENAME TO event_default_pkey;
  ALTER INDEX mesh.event_all_xid_idx RENAME TO event_default_xid_idx;
  ALTER TABLE mesh.event ATTACH PARTITION mesh.event_default DEFAULT;
END
$body$
"""

_ONE_INBOX = """
DO $body$
BEGIN
  CREATE TABLE mesh.inbox_all (
    tenant_id  text        NOT NULL,
    consumer   text        NOT NULL,
    event_id   text        NOT NULL,
    generation int         NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT transaction_timestamp(),
    PRIMARY KEY (tenant_id, consumer, event_id, generation));
  INSERT INTO mesh.inbox_all SELECT tenant_id, consumer, event_id, generation, handled_at FROM mesh.inbox;
  DROP TABLE mesh.inbox;
  ALTER TABLE mesh.inbox_all RENAME TO inbox;
  ALTER INDEX mesh.inbox_all_pkey RENAME TO inbox_pkey;
END
$body$
"""

_OF_RELAY = (
    "mesh.make_day(date, int)",
    "mesh.retire(timestamptz, int)",
    "mesh.strays()",
    "mesh.tick(int)",
)


def upgrade() -> None:
    """Make them; what is there becomes the first partition."""
    for statement in (_CONSUMER, _BACK_FILL, _TICK_PAGE, _PARTITIONS):
        op.execute(statement)
    op.execute(
        "INSERT INTO mesh.consumer (consumer) SELECT DISTINCT consumer FROM mesh.subscription"
    )
    _cut()
    op.execute("ALTER TABLE mesh.tick ADD COLUMN target pg_snapshot")
    # A period of a tenant, in order: for replays, and for the rows that go with their day.
    op.execute("CREATE INDEX feed_recorded ON mesh.feed (tenant_id, recorded_at, position)")
    op.execute(
        "CREATE INDEX dead_letter_place ON mesh.dead_letter (tenant_id, consumer, position, generation)"
    )
    for table, settings in _VACUUM.items():
        op.execute(f"ALTER TABLE mesh.{table} SET ({settings})")
    op.execute("DROP FUNCTION mesh.tick()")
    op.execute(_TICK.replace("{cur}", _CUR).replace("{place}", _PLACE))
    op.execute(_MAKE_DAY.replace("{settings}", _DAY_SETTINGS))
    op.execute(_RETIRE)
    op.execute(_STRAYS)
    # The maintenance of the backbone makes more; a database that nobody serves yet has tomorrow.
    op.execute(
        "SELECT mesh.make_day(((now() AT TIME ZONE 'UTC')::date + n)::date) FROM generate_series(1, 7) AS n"
    )
    _grant()


def downgrade() -> None:
    """Put all days back into one partition. What a page or a back-fill left half-way is ended first."""
    op.execute(_FINISH)
    for function in _OF_RELAY:
        op.execute(f"DROP FUNCTION {function}")
    op.execute(_ONE_EVENT)
    op.execute(_ONE_INBOX)
    op.execute("DROP FUNCTION mesh.partitions(regclass)")
    op.execute("ALTER TABLE mesh.tick DROP COLUMN target")
    op.execute("DROP INDEX mesh.feed_recorded, mesh.dead_letter_place")
    for table, settings in _VACUUM.items():
        if table != "tick_page":
            changed = ", ".join(item.split(" = ")[0] for item in settings.split(", "))
            op.execute(f"ALTER TABLE mesh.{table} RESET ({changed})")
    op.execute("DROP TABLE mesh.tick_page, mesh.back_fill, mesh.consumer")
    names = schema.role_names(op)
    schema.open_to_relay(op, "mesh", "inbox", privileges=schema.ALL)
    op.execute(import_module("services.runtime.migrations.versions.0002_events")._TICK_FUNCTION)
    _grant_to(names.relay, "mesh.tick()")


def _cut() -> None:
    op.execute(_CUT_EVENT)
    for index in ("pkey", "xid_idx"):
        op.execute(f"ALTER INDEX mesh.event_default_{index} RENAME TO event_history_{index}")
    op.execute("CREATE TABLE mesh.event_default PARTITION OF mesh.event DEFAULT")
    op.execute("ALTER TABLE mesh.inbox RENAME TO inbox_before")
    op.execute("ALTER INDEX mesh.inbox_pkey RENAME TO inbox_before_pkey")
    op.execute(_INBOX)
    op.execute(_CUT_INBOX)
    op.execute("CREATE TABLE mesh.inbox_default PARTITION OF mesh.inbox DEFAULT")
    op.execute("DROP TABLE mesh.inbox_before")
    for parent in ("event", "inbox"):
        op.execute(f"ALTER TABLE mesh.{parent}_history SET ({_DAY_SETTINGS})")
        for part in ("history", "default"):
            op.execute(f"ALTER TABLE mesh.{parent}_{part} ENABLE ROW LEVEL SECURITY")


def _grant() -> None:
    names = schema.role_names(op)
    for table in ("inbox", "consumer", "back_fill", "tick_page"):
        schema.open_to_relay(op, "mesh", table, privileges=schema.ALL)
    # Which consumers there are is no tenant's secret.
    op.execute(
        f'CREATE POLICY service_select ON mesh.consumer FOR SELECT TO "{names.service}" USING (true)'
    )
    op.execute(f'GRANT SELECT ON mesh.consumer TO "{names.service}"')
    for function in _OF_RELAY:
        _grant_to(names.relay, function)


def _grant_to(role: str, function: str) -> None:
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION {function} TO "{role}"')
