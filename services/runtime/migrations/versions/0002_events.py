"""The event log, its feed, and the queue that the dispatcher works on.

The log is written by services, each its own tenant's rows, and changed by nobody. Everything behind it belongs
to the relay. Keys of the queue lead with (consumer, lane), by which it is read; it holds nothing that
could not be made again from the log.
"""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

# Ids are unique over all partitions of the log, so they have a table of their own. An outside producer's id is
# any text; 16 bytes of its SHA-256 keep the index small.
_IDENTITY = """
CREATE TABLE mesh.event_identity (
  tenant_id    text  NOT NULL,
  id_hash      bytea NOT NULL CHECK (octet_length(id_hash) = 16),
  content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 16),
  PRIMARY KEY (tenant_id, id_hash)
)
"""

# seq keeps CACHE 1: with more, two sessions would number the events of one aggregate the wrong way round.
# xid is the top-level transaction's id, also inside savepoints. One partition takes every day until
# partitions by day are made ahead of time.
_EVENT = """
CREATE TABLE mesh.event (
  tenant_id      text        NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT transaction_timestamp(),
  event_id       text        NOT NULL CHECK (char_length(event_id) BETWEEN 1 AND 128),
  seq            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
  xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
  subject        text        NOT NULL COLLATE "C",
  schema_version int         NOT NULL CHECK (schema_version > 0),
  key            text        NOT NULL,
  message_name   text        NOT NULL,
  payload        bytea       NOT NULL,
  correlation_id text        NOT NULL,
  causation_id   text        NOT NULL,
  traceparent    text        NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, recorded_at, event_id)
) PARTITION BY RANGE (recorded_at)
"""

_FEED = """
CREATE TABLE mesh.feed (
  tenant_id   text        NOT NULL,
  position    bigint      NOT NULL,
  event_id    text        NOT NULL,
  recorded_at timestamptz NOT NULL,
  subject     text        NOT NULL COLLATE "C",
  key         text        NOT NULL,
  lane        smallint    NOT NULL,
  PRIMARY KEY (tenant_id, position)
)
"""

_TICK = """
CREATE TABLE mesh.tick (
  feed      text        PRIMARY KEY,
  snapshot  pg_snapshot NOT NULL,
  position  bigint      NOT NULL,
  system_id bigint      NOT NULL,
  ticked_at timestamptz NOT NULL
) WITH (fillfactor = 10)
"""

_SUBSCRIPTION = """
CREATE TABLE mesh.subscription (
  consumer  text    NOT NULL,
  text      text    NOT NULL COLLATE "C",
  is_prefix boolean NOT NULL,
  PRIMARY KEY (consumer, text, is_prefix)
)
"""

# Rows come and go at the rate of events: room for updates in place, and a vacuum that does not wait.
_DELIVERY = """
CREATE TABLE mesh.delivery (
  consumer    text        NOT NULL,
  lane        smallint    NOT NULL,
  position    bigint      NOT NULL,
  generation  int         NOT NULL DEFAULT 0,
  tenant_id   text        NOT NULL,
  key         text        NOT NULL,
  event_id    text        NOT NULL,
  recorded_at timestamptz NOT NULL,
  attempts    smallint    NOT NULL DEFAULT 0,
  next_at     timestamptz,
  last_error  text,
  PRIMARY KEY (consumer, lane, position, generation)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0)
"""

# epoch stands in a unique index, so that an update of it waits for the KEY SHARE of a transaction that is
# handling events, while a renewal does not.
_LANE_LEASE = """
CREATE TABLE mesh.lane_lease (
  consumer text        NOT NULL,
  lane     smallint    NOT NULL CHECK (lane BETWEEN 0 AND 255),
  owner    text,
  epoch    bigint      NOT NULL DEFAULT 0,
  until_at timestamptz NOT NULL DEFAULT '-infinity',
  PRIMARY KEY (consumer, lane),
  UNIQUE (consumer, lane, epoch)
) WITH (fillfactor = 50)
"""

_INBOX = """
CREATE TABLE mesh.inbox (
  tenant_id  text        NOT NULL,
  consumer   text        NOT NULL,
  event_id   text        NOT NULL,
  generation int         NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT transaction_timestamp(),
  PRIMARY KEY (tenant_id, consumer, event_id, generation)
)
"""

_DEAD_LETTER = """
CREATE TABLE mesh.dead_letter (
  tenant_id   text        NOT NULL,
  consumer    text        NOT NULL,
  event_id    text        NOT NULL,
  generation  int         NOT NULL,
  lane        smallint    NOT NULL,
  position    bigint      NOT NULL,
  key         text        NOT NULL,
  recorded_at timestamptz NOT NULL,
  attempts    int         NOT NULL,
  last_error  text        NOT NULL,
  buried_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, consumer, event_id, generation)
)
"""

_PARKED_KEY = """
CREATE TABLE mesh.parked_key (
  tenant_id text     NOT NULL,
  consumer  text     NOT NULL,
  lane      smallint NOT NULL,
  key       text     NOT NULL,
  PRIMARY KEY (tenant_id, consumer, lane, key)
)
"""

_LANE = """
CREATE FUNCTION mesh.lane(tenant_id text, key text) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN get_byte(sha256(convert_to(tenant_id || chr(1) || key, 'UTF8')), 0)::smallint
"""

# One round trip, so that a client which stops half way cannot hold the lock. VOLATILE and READ COMMITTED: each
# statement takes its own snapshot, so `cur` is younger than the lock.
_TICK_FUNCTION = """
CREATE FUNCTION mesh.tick(OUT moved bigint, OUT last_position bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  old_snapshot pg_snapshot;
  old_system bigint;
  new_snapshot pg_snapshot;
BEGIN
  -- A SET clause of the function would end before the commit.
  PERFORM set_config('synchronous_commit', 'on', true);
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'a tick needs READ COMMITTED';
  END IF;
  SELECT t.snapshot, t.system_id INTO old_snapshot, old_system
    FROM mesh.tick t WHERE t.feed = 'main' FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    moved := -1;
    RETURN;
  END IF;
  IF old_system <> (SELECT system_identifier FROM pg_control_system()) THEN
    RAISE 'the tick row is from another cluster, whose transaction ids mean nothing here'
      USING HINT = 'drain the feed before a dump; after the restore reset mesh.tick';
  END IF;
  WITH last AS MATERIALIZED (
    SELECT t.snapshot AS s, t.position AS p FROM mesh.tick t WHERE t.feed = 'main'),
  raw AS MATERIALIZED (SELECT pg_current_snapshot() AS s, pg_current_xact_id() AS own),
  -- A snapshot leaves out its own transaction: count it as running, else what it publishes later is lost.
  cur AS MATERIALIZED (
    SELECT CASE WHEN own >= pg_snapshot_xmax(s) THEN s ELSE
      (least(own, pg_snapshot_xmin(s))::text || ':' || pg_snapshot_xmax(s)::text || ':' ||
       (SELECT string_agg(x::text, ',' ORDER BY x)
          FROM (SELECT pg_snapshot_xip(s) AS x UNION SELECT own) AS running))::pg_snapshot END AS s
    FROM raw),
  done AS MATERIALIZED (
    SELECT x FROM last, cur, pg_snapshot_xip(last.s) AS x WHERE pg_visible_in_snapshot(x, cur.s)),
  fresh AS (
    SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject FROM mesh.event e
     WHERE e.xid >= (SELECT pg_snapshot_xmax(s) FROM last) AND e.xid < (SELECT pg_snapshot_xmax(s) FROM cur)
       AND pg_visible_in_snapshot(e.xid, (SELECT s FROM cur))
    UNION ALL
    SELECT e.seq, e.event_id, e.recorded_at, e.tenant_id, e.key, e.subject
      FROM done JOIN mesh.event e ON e.xid = done.x),
  placed AS MATERIALIZED (
    SELECT (SELECT p FROM last) + row_number() OVER (ORDER BY f.seq) AS place,
           mesh.lane(f.tenant_id, f.key) AS lane, f.* FROM fresh f),
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
  UPDATE mesh.tick t
     SET snapshot = cur.s, position = last.p + (SELECT count(*) FROM placed), ticked_at = clock_timestamp()
    FROM cur, last WHERE t.feed = 'main'
  RETURNING t.position - last.p, t.position, t.snapshot INTO moved, last_position, new_snapshot;
  IF pg_snapshot_xmax(new_snapshot) < pg_snapshot_xmax(old_snapshot)
     OR pg_snapshot_xmin(new_snapshot) < pg_snapshot_xmin(old_snapshot) THEN
    RAISE 'the snapshot went backwards: % after %', new_snapshot, old_snapshot;
  END IF;
END
$body$
"""

_SERVICE_WRITES = (
    "tenant_id, event_id, subject, schema_version, key, message_name, payload, "
    "correlation_id, causation_id, traceparent, created_at"
)
_QUEUE = ("delivery", "inbox", "dead_letter", "parked_key", "lane_lease", "subscription")


def upgrade() -> None:
    """Make them, and start the feed before the first producer."""
    for statement in (_IDENTITY, _EVENT, _FEED, _TICK, _SUBSCRIPTION, _DELIVERY, _LANE_LEASE):
        op.execute(statement)
    for statement in (_INBOX, _DEAD_LETTER, _PARKED_KEY, _LANE, _TICK_FUNCTION):
        op.execute(statement)
    op.execute("CREATE TABLE mesh.event_default PARTITION OF mesh.event DEFAULT")
    op.execute("CREATE INDEX event_xid ON mesh.event (xid)")
    op.execute("CREATE INDEX feed_subject ON mesh.feed (tenant_id, subject, position)")
    op.execute(
        "CREATE INDEX delivery_wait ON mesh.delivery (consumer, next_at) WHERE next_at IS NOT NULL"
    )
    op.execute(
        "INSERT INTO mesh.tick (feed, snapshot, position, system_id, ticked_at) "
        "SELECT 'main', '1:1:', 0, system_identifier, clock_timestamp() FROM pg_control_system()"
    )
    _grant()


def downgrade() -> None:
    """Remove them, and every event with them."""
    op.execute("DROP FUNCTION mesh.tick()")
    op.execute("DROP TABLE mesh.parked_key, mesh.dead_letter, mesh.inbox, mesh.lane_lease")
    op.execute("DROP TABLE mesh.delivery, mesh.subscription, mesh.tick, mesh.feed")
    op.execute("DROP TABLE mesh.event, mesh.event_identity")
    op.execute("DROP FUNCTION mesh.lane(text, text)")


def _grant() -> None:
    names = schema.role_names(op)
    # Services: their tenant's log and feed, and how far its events got. They cannot set seq, xid or recorded_at.
    for table in ("event", "feed", "delivery", "dead_letter", "event_identity"):
        schema.protect(op, "mesh", table, privileges=("SELECT",))
    op.execute(f'GRANT INSERT ({_SERVICE_WRITES}) ON mesh.event TO "{names.service}"')
    op.execute(f'GRANT INSERT ON mesh.event_identity TO "{names.service}"')
    # The relay: reads the log, extends the feed, owns the queue.
    schema.open_to_relay(op, "mesh", "event")
    schema.open_to_relay(op, "mesh", "feed", privileges=schema.APPEND_ONLY)
    schema.open_to_relay(op, "mesh", "tick", privileges=("SELECT", "UPDATE"))
    for table in _QUEUE:
        schema.open_to_relay(op, "mesh", table, privileges=schema.ALL)
    # Which consumers there are is no tenant's secret; how far an event got is asked consumer by consumer.
    op.execute(
        f'CREATE POLICY service_select ON mesh.subscription FOR SELECT TO "{names.service}" USING (true)'
    )
    op.execute(f'GRANT SELECT ON mesh.subscription TO "{names.service}"')
    op.execute("REVOKE ALL ON FUNCTION mesh.tick() FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION mesh.tick() TO "{names.relay}"')
