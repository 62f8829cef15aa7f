"""Webhook endpoints, their secrets, deliveries and attempts."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

# An endpoint gets what comes after from_position: what comes after it was made. An empty disabled_reason means that it
# is enabled. failures, failing_since and paused_until are how it fares: they stand here so that every process sees the
# same circuit breaker.
_ENDPOINT = """
CREATE TABLE events.webhook_endpoint (
  tenant_id       text        NOT NULL,
  endpoint_id     text        NOT NULL,
  url             text        NOT NULL,
  subjects        text[]      NOT NULL,
  description     text        NOT NULL,
  format          text        NOT NULL,
  concurrency     int         NOT NULL CHECK (concurrency > 0),
  disabled_reason text        NOT NULL,
  disabled_at     timestamptz,
  from_position   bigint      NOT NULL,
  failures        int         NOT NULL DEFAULT 0,
  failing_since   timestamptz,
  paused_until    timestamptz,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, endpoint_id)
)
"""

# sealed is encrypted under a key that is not in the database (services.runtime.secrets).
_SIGNING_KEYS = """
CREATE TABLE events.webhook_secret (
  tenant_id   text        NOT NULL,
  endpoint_id text        NOT NULL,
  secret_id   text        NOT NULL,
  signing     text        NOT NULL,
  sealed      bytea       NOT NULL,
  public_key  text        NOT NULL,
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz,
  PRIMARY KEY (tenant_id, endpoint_id, secret_id),
  FOREIGN KEY (tenant_id, endpoint_id) REFERENCES events.webhook_endpoint (tenant_id, endpoint_id) ON DELETE CASCADE
)
"""

# The event itself stays in the log; position tells where. next_at is -infinity for tests, which wait for nothing.
_DELIVERY = """
CREATE TABLE events.webhook_delivery (
  tenant_id   text        NOT NULL,
  endpoint_id text        NOT NULL,
  event_id    text        NOT NULL,
  position    bigint      NOT NULL,
  subject     text        NOT NULL,
  status      text        NOT NULL CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED', 'SKIPPED')),
  tries       int         NOT NULL DEFAULT 0,
  next_at     timestamptz NOT NULL,
  lease_until timestamptz,
  fence       bigint      NOT NULL DEFAULT 0,
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, endpoint_id, event_id)
) WITH (fillfactor = 80)
"""

_ATTEMPT = """
CREATE TABLE events.webhook_attempt (
  tenant_id   text        NOT NULL,
  attempt_id  text        NOT NULL,
  endpoint_id text        NOT NULL,
  event_id    text        NOT NULL,
  subject     text        NOT NULL,
  number      int         NOT NULL,
  outcome     text        NOT NULL,
  status_code int         NOT NULL DEFAULT 0,
  response    text        NOT NULL DEFAULT '',
  error       text        NOT NULL DEFAULT '',
  started_at  timestamptz NOT NULL,
  latency_ms  int         NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, attempt_id)
)
"""

_INDEXES = (
    # What waits, endpoint by endpoint: the claim steps from one to the next.
    "CREATE INDEX webhook_waiting ON events.webhook_delivery (tenant_id, endpoint_id, next_at)"
    " WHERE status = 'PENDING'",
    "CREATE INDEX webhook_leased ON events.webhook_delivery (tenant_id, endpoint_id, lease_until)"
    " WHERE lease_until IS NOT NULL",
    "CREATE INDEX webhook_by_status ON events.webhook_delivery"
    " (tenant_id, endpoint_id, status, created_at, event_id)",
    "CREATE INDEX webhook_attempt_endpoint ON events.webhook_attempt (tenant_id, endpoint_id, attempt_id)",
    "CREATE INDEX webhook_attempt_event ON events.webhook_attempt (tenant_id, event_id, attempt_id)",
    # For what is old; rows come in the order of time, so that ranges of pages are enough.
    "CREATE INDEX webhook_delivery_age ON events.webhook_delivery USING brin (created_at)",
    "CREATE INDEX webhook_attempt_age ON events.webhook_attempt USING brin (started_at)",
)

# Work of every tenant is found by the owner's rights; what comes out are ids to be worked on as their tenant. The
# lock on the endpoint makes two processes that claim at once count its requests one after the other. An attempt that
# nobody finished belongs to a process that ended. A last row without event says where the next call goes on.
_CLAIM = """
CREATE FUNCTION events.claim_webhooks(
  p_now timestamptz, p_lease_ms integer, p_ids text[], p_breaker integer, p_tenant_max integer, p_steps integer,
  p_tenant text, p_endpoint text
) RETURNS TABLE (tenant_id text, endpoint_id text, event_id text, position_ bigint, subject text, tries integer,
                 fence bigint, attempt_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
  first_due timestamptz;
  e events.webhook_endpoint;
  busy integer;
  busy_of_tenant integer;
  room integer;
  until timestamptz;
  given integer := 0;
  n integer;
BEGIN
  FOR step IN 1..p_steps LOOP
    SELECT d.tenant_id, d.endpoint_id, d.next_at INTO p_tenant, p_endpoint, first_due
      FROM events.webhook_delivery d
     WHERE d.status = 'PENDING' AND (d.tenant_id, d.endpoint_id) > (p_tenant, p_endpoint)
     ORDER BY d.tenant_id, d.endpoint_id, d.next_at LIMIT 1;
    IF NOT FOUND THEN
      RETURN;
    END IF;
    CONTINUE WHEN first_due > p_now;
    SELECT * INTO e FROM events.webhook_endpoint w
     WHERE w.tenant_id = p_tenant AND w.endpoint_id = p_endpoint FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      IF NOT EXISTS (SELECT FROM events.webhook_endpoint w
                      WHERE w.tenant_id = p_tenant AND w.endpoint_id = p_endpoint) THEN
        DELETE FROM events.webhook_delivery d
         WHERE d.tenant_id = p_tenant AND d.endpoint_id = p_endpoint AND d.event_id IN (
           SELECT o.event_id FROM events.webhook_delivery o
            WHERE o.tenant_id = p_tenant AND o.endpoint_id = p_endpoint AND o.status = 'PENDING' LIMIT 500);
      END IF;
      CONTINUE;
    END IF;
    IF e.disabled_reason <> '' THEN
      UPDATE events.webhook_delivery d SET status = 'SKIPPED', updated_at = p_now
       WHERE d.tenant_id = p_tenant AND d.endpoint_id = p_endpoint AND d.event_id IN (
         SELECT o.event_id FROM events.webhook_delivery o
          WHERE o.tenant_id = p_tenant AND o.endpoint_id = p_endpoint AND o.status = 'PENDING'
            AND (o.lease_until IS NULL OR o.lease_until < clock_timestamp())
          ORDER BY o.next_at LIMIT 500);
      CONTINUE;
    END IF;
    SELECT count(*) FILTER (WHERE d.endpoint_id = p_endpoint), count(*) INTO busy, busy_of_tenant
      FROM events.webhook_delivery d WHERE d.tenant_id = p_tenant AND d.lease_until > clock_timestamp();
    -- A paused endpoint gets tests only; one whose pause has passed after failures gets one request, to try it.
    IF e.paused_until > p_now THEN
      until := '-infinity';
      room := 1;
    ELSE
      until := p_now;
      room := CASE WHEN e.failures >= p_breaker THEN 1 ELSE e.concurrency END - busy;
    END IF;
    -- Endpoints of one tenant that hang must not take every place there is.
    room := least(room, p_tenant_max - busy_of_tenant, cardinality(p_ids) - given);
    IF room > 0 THEN
      RETURN QUERY
      WITH picked AS (
        SELECT d.event_id FROM events.webhook_delivery d
         WHERE d.tenant_id = p_tenant AND d.endpoint_id = p_endpoint AND d.status = 'PENDING'
           AND d.next_at <= until AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
         ORDER BY d.next_at LIMIT room FOR UPDATE SKIP LOCKED),
      numbered AS (SELECT p.event_id, row_number() OVER () AS place FROM picked p),
      taken AS (
        UPDATE events.webhook_delivery d
           SET tries = d.tries + 1, fence = d.fence + 1,
               lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0)
          FROM numbered m
         WHERE d.tenant_id = p_tenant AND d.endpoint_id = p_endpoint AND d.event_id = m.event_id
        RETURNING d.event_id, d.position, d.subject, d.tries, d.fence, p_ids[given + m.place] AS attempt_id),
      lost AS (
        UPDATE events.webhook_attempt a
           SET outcome = 'LOST', error = 'the process that sent it ended before it wrote the answer down'
          FROM taken t
         WHERE a.tenant_id = p_tenant AND a.event_id = t.event_id AND a.endpoint_id = p_endpoint
           AND a.outcome = 'SENDING'),
      made AS (
        INSERT INTO events.webhook_attempt (tenant_id, attempt_id, endpoint_id, event_id, subject, number, outcome,
                                            started_at)
        SELECT p_tenant, t.attempt_id, p_endpoint, t.event_id, t.subject, t.tries, 'SENDING', p_now FROM taken t)
      SELECT p_tenant, p_endpoint, t.event_id, t.position, t.subject, t.tries, t.fence, t.attempt_id FROM taken t;
      GET DIAGNOSTICS n = ROW_COUNT;
      given := given + n;
    END IF;
    EXIT WHEN given >= cardinality(p_ids);
  END LOOP;
  tenant_id := p_tenant;
  endpoint_id := p_endpoint;
  RETURN NEXT;
END
$body$
"""

_PRUNE = """
CREATE FUNCTION events.prune_webhooks(p_before timestamptz, p_limit integer) RETURNS bigint
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

_FUNCTIONS = (
    "events.claim_webhooks(timestamptz, integer, text[], integer, integer, integer, text, text)",
    "events.prune_webhooks(timestamptz, integer)",
)


def upgrade() -> None:
    """Make them."""
    for statement in (_ENDPOINT, _SIGNING_KEYS, _DELIVERY, _ATTEMPT, *_INDEXES, _CLAIM, _PRUNE):
        op.execute(statement)
    for signature in _FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f'GRANT EXECUTE ON FUNCTION {signature} TO "{schema.role_names(op).service}"')
    for table, privileges in (
        ("webhook_endpoint", schema.ALL),
        ("webhook_secret", schema.ALL),
        ("webhook_delivery", ("SELECT", "INSERT", "UPDATE")),
        ("webhook_attempt", ("SELECT", "UPDATE")),
    ):
        schema.protect(op, "events", table, privileges=privileges)


def downgrade() -> None:
    """Remove them."""
    for signature in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TABLE events.webhook_attempt, events.webhook_delivery, events.webhook_secret")
    op.execute("DROP TABLE events.webhook_endpoint")
