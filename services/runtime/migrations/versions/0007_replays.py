"""Replays: what a tenant may put back into the queue."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0006"

# What services may do to the queue, for the tenant of their transaction. Lanes are taken from their owners first, in
# the order of their numbers: an owner may remember that it has read past the place of what is put in. The shared
# lock keeps the days from going meanwhile.
_EVICT = """
CREATE FUNCTION mesh.evict(of_consumer text, lanes smallint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  PERFORM FROM mesh.lane_lease l WHERE l.consumer = of_consumer AND l.lane = ANY (lanes) ORDER BY l.lane FOR UPDATE;
  UPDATE mesh.lane_lease l
     SET epoch = l.epoch + 1, owner = NULL,
         -- A lane that waits for its back-fill stays shut.
         until_at = CASE WHEN l.until_at = 'infinity' THEN l.until_at ELSE clock_timestamp() END
   WHERE l.consumer = of_consumer AND l.lane = ANY (lanes);
END
$body$
"""

_REPLAY_DEAD_LETTERS = """
CREATE FUNCTION mesh.replay_dead_letters(
  of_consumer text, of_key text, of_events text[], rows_max int, OUT replayed int, OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  tenant text := mesh.current_tenant();
  lanes smallint[];
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('tollmesh.feed', 0));
  lanes := ARRAY(
    SELECT DISTINCT c.lane FROM (
      SELECT l.lane FROM mesh.dead_letter l
       WHERE l.tenant_id = tenant AND l.consumer = of_consumer
         AND (of_key IS NULL OR l.key = of_key) AND (of_events IS NULL OR l.event_id = ANY (of_events))
       ORDER BY l.position, l.generation LIMIT rows_max) AS c);
  PERFORM mesh.evict(of_consumer, lanes);
  WITH letters AS (
    DELETE FROM mesh.dead_letter d USING (
      SELECT l.event_id, l.generation FROM mesh.dead_letter l
       WHERE l.tenant_id = tenant AND l.consumer = of_consumer AND l.lane = ANY (lanes)
         AND (of_key IS NULL OR l.key = of_key) AND (of_events IS NULL OR l.event_id = ANY (of_events))
       ORDER BY l.position, l.generation LIMIT rows_max) AS c
     WHERE d.tenant_id = tenant AND d.consumer = of_consumer
       AND d.event_id = c.event_id AND d.generation = c.generation
    RETURNING d.*)
  INSERT INTO mesh.delivery (consumer, lane, position, generation, tenant_id, key, event_id, recorded_at)
  SELECT l.consumer, l.lane, l.position, l.generation, l.tenant_id, l.key, l.event_id, l.recorded_at FROM letters l;
  GET DIAGNOSTICS replayed = ROW_COUNT;
  -- A key goes on once none of its letters is left: later events must not overtake an earlier one.
  DELETE FROM mesh.parked_key k
   WHERE k.tenant_id = tenant AND k.consumer = of_consumer AND k.lane = ANY (lanes)
     AND NOT EXISTS (SELECT FROM mesh.dead_letter l
                      WHERE l.tenant_id = tenant AND l.consumer = of_consumer AND l.key = k.key);
  more := EXISTS (
    SELECT FROM mesh.dead_letter l
     WHERE l.tenant_id = tenant AND l.consumer = of_consumer
       AND (of_key IS NULL OR l.key = of_key) AND (of_events IS NULL OR l.event_id = ANY (of_events)));
END
$body$
"""

# Events keep their places, so they come before all that waits behind them, each key in its order. What still
# waits, or lies in the dead letters, is left out: it comes anyway, at its place.
_REPLAY_EVENTS = """
CREATE FUNCTION mesh.replay_events(
  of_consumer text, of_generation int, from_at timestamptz, until_at timestamptz, subjects text[], prefixes bool[],
  after_position bigint, end_position bigint, rows_max int,
  OUT replayed int, OUT last_position bigint, OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  tenant text := mesh.current_tenant();
  lanes smallint[];
BEGIN
  IF of_generation < 1 OR rows_max < 1 THEN
    RAISE 'a replay needs a generation and a page';
  END IF;
  PERFORM pg_advisory_xact_lock_shared(hashtextextended('tollmesh.feed', 0));
  -- A page is so many places of the feed, replayed or not: what a call reads is bounded by it.
  SELECT max(p.position), count(*) = rows_max, array_agg(DISTINCT p.lane)
    INTO last_position, more, lanes
    FROM (SELECT f.position, f.lane FROM mesh.feed f
           WHERE f.tenant_id = tenant AND f.position > after_position AND f.position <= end_position
           ORDER BY f.position LIMIT rows_max) AS p;
  IF last_position IS NULL THEN
    replayed := 0;
    last_position := after_position;
    RETURN;
  END IF;
  PERFORM mesh.evict(of_consumer, lanes);
  INSERT INTO mesh.delivery (consumer, lane, position, generation, tenant_id, key, event_id, recorded_at)
  SELECT of_consumer, f.lane, f.position, of_generation, f.tenant_id, f.key, f.event_id, f.recorded_at
    FROM mesh.feed f
   WHERE f.tenant_id = tenant AND f.position > after_position AND f.position <= last_position
     AND f.recorded_at >= from_at AND f.recorded_at < until_at
     AND EXISTS (
           SELECT FROM mesh.subscription s
            WHERE s.consumer = of_consumer
              AND CASE WHEN s.is_prefix THEN starts_with(f.subject, s.text) ELSE f.subject = s.text END)
     AND (cardinality(subjects) = 0 OR EXISTS (
           SELECT FROM unnest(subjects, prefixes) AS w (text, is_prefix)
            WHERE CASE WHEN w.is_prefix THEN starts_with(f.subject, w.text) ELSE f.subject = w.text END))
     AND NOT EXISTS (SELECT FROM mesh.delivery d
                      WHERE d.consumer = of_consumer AND d.lane = f.lane AND d.position = f.position)
     AND NOT EXISTS (SELECT FROM mesh.dead_letter l
                      WHERE l.tenant_id = tenant AND l.consumer = of_consumer AND l.event_id = f.event_id);
  GET DIAGNOSTICS replayed = ROW_COUNT;
END
$body$
"""

_OF_SERVICE = (
    "mesh.replay_dead_letters(text, text, text[], int)",
    "mesh.replay_events(text, int, timestamptz, timestamptz, text[], bool[], bigint, bigint, int)",
)


def upgrade() -> None:
    """Make them."""
    for statement in (_EVICT, _REPLAY_DEAD_LETTERS, _REPLAY_EVENTS):
        op.execute(statement)
    names = schema.role_names(op)
    # Which keys of its own wait behind a dead letter.
    schema.protect(op, "mesh", "parked_key", privileges=("SELECT",))
    for function in _OF_SERVICE:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f'GRANT EXECUTE ON FUNCTION {function} TO "{names.service}"')
    # It works inside the two above, which run as its owner.
    op.execute("REVOKE ALL ON FUNCTION mesh.evict(text, smallint[]) FROM PUBLIC")


def downgrade() -> None:
    """Remove them."""
    for function in (*_OF_SERVICE, "mesh.evict(text, smallint[])"):
        op.execute(f"DROP FUNCTION {function}")
    names = schema.role_names(op)
    op.execute("DROP POLICY tenant ON mesh.parked_key")
    op.execute(f'REVOKE SELECT ON mesh.parked_key FROM "{names.service}"')
