"""Removes no more old webhooks than asked for, and tells how far the deliveries are behind."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0005"
down_revision = "0004"

_LAG_SIGNATURE = "events.webhooks_lag(timestamptz)"

# Materialized: joined with the delete they may be run again for each row, and each time they find others.
_PRUNE = """
CREATE OR REPLACE FUNCTION events.prune_webhooks(p_before timestamptz, p_limit integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH old_attempts AS MATERIALIZED (
    SELECT o.tenant_id, o.attempt_id FROM events.webhook_attempt o WHERE o.started_at < p_before LIMIT p_limit
       FOR UPDATE SKIP LOCKED),
  attempts AS (
    DELETE FROM events.webhook_attempt a USING old_attempts old
     WHERE a.tenant_id = old.tenant_id AND a.attempt_id = old.attempt_id RETURNING 1),
  old_deliveries AS MATERIALIZED (
    SELECT o.tenant_id, o.endpoint_id, o.event_id FROM events.webhook_delivery o
     WHERE o.created_at < p_before AND o.updated_at < p_before AND o.status <> 'PENDING' LIMIT p_limit
       FOR UPDATE SKIP LOCKED),
  deliveries AS (
    DELETE FROM events.webhook_delivery d USING old_deliveries old
     WHERE d.tenant_id = old.tenant_id AND d.endpoint_id = old.endpoint_id AND d.event_id = old.event_id
    RETURNING 1)
  SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM deliveries);
END
"""

_PRUNE_BEFORE = """
CREATE OR REPLACE FUNCTION events.prune_webhooks(p_before timestamptz, p_limit integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH attempts AS (
    DELETE FROM events.webhook_attempt a USING (
      SELECT o.tenant_id, o.attempt_id FROM events.webhook_attempt o WHERE o.started_at < p_before LIMIT p_limit
         FOR UPDATE SKIP LOCKED) old
     WHERE a.tenant_id = old.tenant_id AND a.attempt_id = old.attempt_id RETURNING 1),
  deliveries AS (
    DELETE FROM events.webhook_delivery d USING (
      SELECT o.tenant_id, o.endpoint_id, o.event_id FROM events.webhook_delivery o
       WHERE o.created_at < p_before AND o.updated_at < p_before AND o.status <> 'PENDING' LIMIT p_limit
         FOR UPDATE SKIP LOCKED) old
     WHERE d.tenant_id = old.tenant_id AND d.endpoint_id = old.endpoint_id AND d.event_id = old.event_id
    RETURNING 1)
  SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM deliveries);
END
"""

# From endpoint to endpoint along the index of what waits, as a claim goes: there is none by time alone. A test's time
# is -infinity, and it waits for nothing.
_LAG = """
CREATE FUNCTION events.webhooks_lag(p_now timestamptz, OUT due bigint, OUT oldest_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE endpoints AS (
    (SELECT d.tenant_id, d.endpoint_id, 1 AS step FROM events.webhook_delivery d WHERE d.status = 'PENDING'
      ORDER BY d.tenant_id, d.endpoint_id LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.endpoint_id, e.step + 1 FROM endpoints e
      CROSS JOIN LATERAL (
        SELECT d.tenant_id, d.endpoint_id FROM events.webhook_delivery d
         WHERE d.status = 'PENDING' AND (d.tenant_id, d.endpoint_id) > (e.tenant_id, e.endpoint_id)
         ORDER BY d.tenant_id, d.endpoint_id LIMIT 1) n
     WHERE e.step < 1000)
  SELECT coalesce(sum(w.due), 0)::bigint, min(w.oldest_at) FROM endpoints e
    CROSS JOIN LATERAL (
      SELECT count(*) AS due, min(o.next_at) FILTER (WHERE isfinite(o.next_at)) AS oldest_at FROM (
        SELECT d.next_at FROM events.webhook_delivery d
         WHERE d.tenant_id = e.tenant_id AND d.endpoint_id = e.endpoint_id AND d.status = 'PENDING'
           AND d.next_at <= p_now AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
         ORDER BY d.next_at LIMIT 100) o) w;
END
"""


def upgrade() -> None:
    """Replace the one and make the other."""
    op.execute(_PRUNE)
    op.execute(_LAG)
    schema.grant_function(op, _LAG_SIGNATURE)


def downgrade() -> None:
    """Put the one back and drop the other."""
    op.execute(f"DROP FUNCTION {_LAG_SIGNATURE}")
    op.execute(_PRUNE_BEFORE)
