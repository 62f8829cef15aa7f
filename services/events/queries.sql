Statements of the event service. They run as the services' role, for the tenant of the transaction. Under row-level
security only leakproof operators use an index: comparisons of text and numbers do, LIKE and starts_with do not.

-- @last_position
SELECT coalesce(max(position), 0) AS position FROM mesh.feed WHERE tenant_id = %(tenant_id)s;

-- @subjects_between
-- The subjects that the tenant has below a first part: one step through the index each, not one row each.
WITH RECURSIVE found (subject) AS (
  (SELECT f.subject FROM mesh.feed f
    WHERE f.tenant_id = %(tenant_id)s AND f.subject >= %(first)s AND f.subject < %(end)s
    ORDER BY f.subject LIMIT 1)
  UNION ALL
  SELECT (SELECT f.subject FROM mesh.feed f
           WHERE f.tenant_id = %(tenant_id)s AND f.subject > found.subject AND f.subject < %(end)s
           ORDER BY f.subject LIMIT 1)
    FROM found WHERE found.subject IS NOT NULL)
SELECT subject FROM found WHERE subject IS NOT NULL LIMIT %(limit)s;

-- @page_of_all
SELECT f.position FROM mesh.feed f
 WHERE f.tenant_id = %(tenant_id)s AND f.position > %(after)s ORDER BY f.position LIMIT %(limit)s;

-- @page_of_subjects
SELECT p.position FROM unnest(%(subjects)s::text[]) AS s (subject)
 CROSS JOIN LATERAL (
   SELECT f.position FROM mesh.feed f
    WHERE f.tenant_id = %(tenant_id)s AND f.subject = s.subject AND f.position > %(after)s
    ORDER BY f.position LIMIT %(limit)s) AS p
 ORDER BY p.position LIMIT %(limit)s;

-- @events_at
-- The first of the events, until their payloads weigh as much as a page may; the one that passes the mark is the last.
WITH consumers AS MATERIALIZED (SELECT DISTINCT consumer FROM mesh.subscription),
weighed AS (
  SELECT f.position, f.lane, e.event_id, e.subject, e.schema_version, e.tenant_id, e.key, e.message_name, e.payload,
         e.correlation_id, e.causation_id, e.traceparent, e.created_at,
         sum(octet_length(e.payload)) OVER (ORDER BY f.position) - octet_length(e.payload) AS bytes_before
    FROM mesh.feed f
    JOIN mesh.event e ON e.tenant_id = f.tenant_id AND e.recorded_at = f.recorded_at AND e.event_id = f.event_id
   WHERE f.tenant_id = %(tenant_id)s AND f.position = ANY(%(positions)s))
SELECT f.position, f.event_id, f.subject, f.schema_version, f.tenant_id, f.key, f.message_name, f.payload,
       f.correlation_id, f.causation_id, f.traceparent, f.created_at,
       w.waiting, l.dead, greatest(w.tries, l.tries, 0) AS tries, w.next_at,
       coalesce(w.last_error, l.last_error, '') AS last_error, coalesce(k.attributes, '{}') AS kept
  FROM weighed f
  LEFT JOIN events.cloud_event k ON k.tenant_id = f.tenant_id AND k.event_id = f.event_id
 CROSS JOIN LATERAL (
   SELECT count(*) AS waiting, max(d.attempts) AS tries, min(d.next_at) AS next_at, max(d.last_error) AS last_error
     FROM consumers c
     JOIN mesh.delivery d ON d.consumer = c.consumer AND d.lane = f.lane AND d.position = f.position) AS w
 CROSS JOIN LATERAL (
   SELECT count(*) AS dead, max(x.attempts) AS tries, max(x.last_error) AS last_error
     FROM consumers c
     JOIN mesh.dead_letter x
       ON x.tenant_id = f.tenant_id AND x.consumer = c.consumer AND x.event_id = f.event_id) AS l
 WHERE f.bytes_before < %(bytes_max)s ORDER BY f.position;

-- @lock_types
-- Registrations of one tenant come one after the other: each is judged against what stands.
SELECT pg_advisory_xact_lock(hashtextextended('events.types:' || %(tenant_id)s, 0));

-- @count_types
SELECT count(*) FROM events.event_type WHERE tenant_id = %(tenant_id)s;

-- @subjects_after
SELECT subject FROM events.event_type
 WHERE tenant_id = %(tenant_id)s AND subject > %(after)s ORDER BY subject LIMIT %(limit)s;

-- @types
SELECT subject, owner, consumers, description, key_field FROM events.event_type
 WHERE tenant_id = %(tenant_id)s AND subject = ANY(%(subjects)s);

-- @versions
SELECT subject, version, json_schema, published_at, cutover_at FROM events.event_type_version
 WHERE tenant_id = %(tenant_id)s AND subject = ANY(%(subjects)s) ORDER BY subject, version;

-- @claim_ids
-- Sorted, so that two calls that bring the same ids wait for each other instead of dead-locking. Who comes second
-- waits here for the first's commit, then gets no row.
INSERT INTO mesh.event_identity (tenant_id, id_hash, content_hash)
SELECT %(tenant_id)s, i.id_hash, i.content_hash
  FROM unnest(%(id_hash)b::bytea[], %(content_hash)b::bytea[]) AS i (id_hash, content_hash)
 ORDER BY i.id_hash
ON CONFLICT DO NOTHING RETURNING id_hash;

-- @known_ids
-- In a statement of its own: the winner of a race is not visible to the one that lost it.
SELECT id_hash, content_hash FROM mesh.event_identity
 WHERE tenant_id = %(tenant_id)s AND id_hash = ANY(%(id_hash)b::bytea[]);

-- @append
-- An empty message_name says that the payload is JSON.
INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload,
                        correlation_id, causation_id, traceparent, created_at)
SELECT %(tenant_id)s, e.event_id, e.subject, e.schema_version, e.key, '', e.payload,
       e.correlation_id, e.causation_id, e.traceparent, e.created_at
  FROM unnest(%(event_id)b::text[], %(subject)b::text[], %(schema_version)b::int[], %(key)b::text[],
              %(payload)b::bytea[], %(correlation_id)b::text[], %(causation_id)b::text[], %(traceparent)b::text[],
              %(created_at)b::timestamptz[])
       WITH ORDINALITY AS e (event_id, subject, schema_version, key, payload, correlation_id, causation_id,
                             traceparent, created_at, place)
 ORDER BY e.place;

-- @keep_attributes
-- In the transaction of their events, whose ids are claimed. An id that came free again when the log lost its oldest day
-- takes the place of what was kept for it.
INSERT INTO events.cloud_event (tenant_id, event_id, attributes)
SELECT %(tenant_id)s, k.event_id, k.attributes::jsonb
  FROM unnest(%(event_id)s::text[], %(attributes)s::text[]) AS k (event_id, attributes)
ON CONFLICT (tenant_id, event_id) DO UPDATE SET attributes = EXCLUDED.attributes, recorded_at = EXCLUDED.recorded_at;

-- @forget_attributes
-- What is kept goes after its event has gone with the log's oldest day. Each call that keeps some removes up to
-- twice as many, so that the table cannot outgrow the log.
WITH old AS MATERIALIZED (
  SELECT c.event_id FROM events.cloud_event c
   WHERE c.tenant_id = %(tenant_id)s
     AND c.recorded_at < (SELECT min(e.recorded_at) FROM mesh.event e WHERE e.tenant_id = %(tenant_id)s)
   ORDER BY c.recorded_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
DELETE FROM events.cloud_event k
 USING old
 WHERE k.tenant_id = %(tenant_id)s AND k.event_id = old.event_id;

-- @lock_webhooks
-- Endpoints of one tenant are made one after the other: there is a bound to their number.
SELECT pg_advisory_xact_lock(hashtextextended('events.webhooks:' || %(tenant_id)s, 0));

-- @count_webhook_endpoints
SELECT count(*) FROM events.webhook_endpoint WHERE tenant_id = %(tenant_id)s;

-- @insert_webhook_endpoint
INSERT INTO events.webhook_endpoint (tenant_id, endpoint_id, url, subjects, description, format, concurrency,
                                     disabled_reason, disabled_at, from_position, created_at, updated_at)
VALUES (%(tenant_id)s, %(endpoint_id)s, %(url)s, %(subjects)s, %(description)s, %(format)s, %(concurrency)s,
        %(disabled_reason)s, %(disabled_at)s,
        (SELECT coalesce(max(position), 0) FROM mesh.feed WHERE tenant_id = %(tenant_id)s),
        %(created_at)s, %(updated_at)s);

-- @update_webhook_endpoint
UPDATE events.webhook_endpoint
   SET url = %(url)s, subjects = %(subjects)s, description = %(description)s, format = %(format)s,
       concurrency = %(concurrency)s, disabled_reason = %(disabled_reason)s, disabled_at = %(disabled_at)s,
       failures = %(failures)s, failing_since = %(failing_since)s, paused_until = %(paused_until)s,
       updated_at = %(updated_at)s
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s;

-- @delete_webhook_endpoint
DELETE FROM events.webhook_endpoint WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s;

-- @webhook_endpoint
SELECT endpoint_id, url, subjects, description, format, concurrency, disabled_reason, disabled_at, failures,
       failing_since, paused_until, created_at, updated_at
  FROM events.webhook_endpoint WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s;

-- @hold_webhook_endpoint
-- The same, held: its health and its configuration are changed by one at a time.
SELECT endpoint_id, url, subjects, description, format, concurrency, disabled_reason, disabled_at, failures,
       failing_since, paused_until, created_at, updated_at
  FROM events.webhook_endpoint WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s
   FOR NO KEY UPDATE;

-- @webhook_endpoints_after
SELECT endpoint_id, url, subjects, description, format, concurrency, disabled_reason, disabled_at, failures,
       failing_since, paused_until, created_at, updated_at
  FROM events.webhook_endpoint WHERE tenant_id = %(tenant_id)s AND endpoint_id > %(after)s
 ORDER BY endpoint_id LIMIT %(limit)s;

-- @insert_webhook_secret
INSERT INTO events.webhook_secret (tenant_id, endpoint_id, secret_id, signing, sealed, public_key, created_at)
VALUES (%(tenant_id)s, %(endpoint_id)s, %(secret_id)s, %(signing)s, %(sealed)s, %(public_key)s, %(created_at)s);

-- @end_webhook_secret
UPDATE events.webhook_secret SET expires_at = %(expires_at)s
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND secret_id = %(secret_id)s;

-- @drop_webhook_secrets
-- What has expired signs nothing any more.
DELETE FROM events.webhook_secret
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND expires_at <= %(now)s;

-- @webhook_secrets
-- The newest first.
SELECT endpoint_id, secret_id, signing, sealed, public_key, created_at, expires_at FROM events.webhook_secret
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = ANY(%(endpoint_ids)s)
   AND (expires_at IS NULL OR expires_at > %(now)s)
 ORDER BY secret_id DESC;

-- @add_webhook_deliveries
-- What arises from events, in one statement, and nothing for a tenant without endpoints. A pattern ends in `*`.
-- An endpoint gets what came after it was made, and what is replayed. A replayed event begins anew; the same event
-- by itself never comes twice.
INSERT INTO events.webhook_delivery AS d
       (tenant_id, endpoint_id, event_id, position, subject, status, next_at, created_at, updated_at)
SELECT w.tenant_id, w.endpoint_id, e.event_id, e.position, e.subject,
       CASE WHEN w.disabled_reason = '' THEN 'PENDING' ELSE 'SKIPPED' END,
       CASE WHEN e.subject = %(test_subject)s THEN '-infinity' ELSE %(now)s::timestamptz END, %(now)s, %(now)s
  FROM events.webhook_endpoint w
 CROSS JOIN unnest(%(event_id)s::text[], %(position)s::bigint[], %(subject)s::text[], %(key)s::text[],
                   %(generation)s::int[]) AS e (event_id, position, subject, key, generation)
 WHERE w.tenant_id = %(tenant_id)s AND (e.position > w.from_position OR e.generation > 0)
   AND CASE WHEN e.subject = %(test_subject)s THEN e.key = w.endpoint_id
            ELSE EXISTS (SELECT FROM unnest(w.subjects) AS p (text)
                          WHERE CASE WHEN right(p.text, 1) = '*' THEN starts_with(e.subject, rtrim(p.text, '*'))
                                     ELSE e.subject = p.text END) END
 ORDER BY w.endpoint_id, e.event_id
ON CONFLICT (tenant_id, endpoint_id, event_id) DO UPDATE
   SET status = excluded.status, tries = 0, next_at = excluded.next_at, updated_at = excluded.updated_at
 WHERE d.status <> 'PENDING'
   AND d.event_id IN (SELECT r.event_id FROM unnest(%(event_id)s::text[], %(generation)s::int[])
                             AS r (event_id, generation) WHERE r.generation > 0);

-- @claim_webhooks
SELECT tenant_id, endpoint_id, event_id, position_ AS position, subject, tries, fence, attempt_id
  FROM events.claim_webhooks(%(now)s, %(lease_ms)s, %(attempt_ids)s, %(breaker)s, %(tenant_max)s, %(steps)s,
                             %(after_tenant)s, %(after_endpoint)s);

-- @webhooks_lag
SELECT due, oldest_at FROM events.webhooks_lag(%(now)s);

-- @prune_webhooks
SELECT events.prune_webhooks(%(before)s, %(limit)s) AS gone;

-- @events_of_webhooks
SELECT f.position, e.event_id, e.subject, e.schema_version, e.tenant_id, e.key, e.message_name, e.payload,
       e.correlation_id, e.causation_id, e.traceparent, e.created_at, coalesce(k.attributes, '{}') AS kept
  FROM mesh.feed f
  JOIN mesh.event e ON e.tenant_id = f.tenant_id AND e.recorded_at = f.recorded_at AND e.event_id = f.event_id
  LEFT JOIN events.cloud_event k ON k.tenant_id = f.tenant_id AND k.event_id = f.event_id
 WHERE f.tenant_id = %(tenant_id)s AND f.position = ANY(%(positions)s);

-- @finish_webhook_attempt
UPDATE events.webhook_attempt
   SET outcome = %(outcome)s, status_code = %(status_code)s, response = %(response)s, error = %(error)s,
       latency_ms = %(latency_ms)s
 WHERE tenant_id = %(tenant_id)s AND attempt_id = %(attempt_id)s;

-- @settle_webhook_delivery
-- Finds no row once another process has claimed the delivery.
UPDATE events.webhook_delivery
   SET status = %(status)s, next_at = coalesce(%(next_at)s::timestamptz, next_at), lease_until = NULL,
       tries = tries - CASE WHEN %(counts)s THEN 0 ELSE 1 END, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND event_id = %(event_id)s
   AND fence = %(fence)s AND status = 'PENDING'
RETURNING event_id;

-- @webhook_deliveries_of
-- The newest first, each status by its part of the index. A test's next attempt is due as soon as it was made.
SELECT n.endpoint_id, n.event_id, n.subject, n.status, n.tries, greatest(n.next_at, n.created_at) AS next_at,
       n.created_at, n.updated_at
  FROM unnest(%(statuses)s::text[]) AS s (status)
 CROSS JOIN LATERAL (
   SELECT * FROM events.webhook_delivery d
    WHERE d.tenant_id = %(tenant_id)s AND d.endpoint_id = %(endpoint_id)s AND d.status = s.status
      AND (d.created_at, d.event_id) < (coalesce(%(before)s::timestamptz, 'infinity'), %(before_event)s)
    ORDER BY d.created_at DESC, d.event_id DESC LIMIT %(limit)s) AS n
 ORDER BY n.created_at DESC, n.event_id DESC LIMIT %(limit)s;

-- @redeliver_webhook_event
UPDATE events.webhook_delivery SET status = 'PENDING', tries = 0, next_at = %(now)s, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND event_id = %(event_id)s
RETURNING event_id;

-- @redeliver_webhook_period
-- The oldest first; one more than may be is looked for, to tell whether there is more.
WITH found AS MATERIALIZED (
  SELECT n.event_id, row_number() OVER (ORDER BY n.created_at, n.event_id) AS place
    FROM unnest(%(statuses)s::text[]) AS s (status)
   CROSS JOIN LATERAL (
     SELECT d.event_id, d.created_at FROM events.webhook_delivery d
      WHERE d.tenant_id = %(tenant_id)s AND d.endpoint_id = %(endpoint_id)s AND d.status = s.status
        AND d.created_at >= %(start_at)s AND d.created_at < %(end_at)s AND d.subject <> %(test_subject)s
      ORDER BY d.created_at, d.event_id LIMIT %(limit)s + 1) AS n),
changed AS (
  UPDATE events.webhook_delivery d SET status = 'PENDING', tries = 0, next_at = %(now)s, updated_at = %(now)s
    FROM found f
   WHERE d.tenant_id = %(tenant_id)s AND d.endpoint_id = %(endpoint_id)s AND d.event_id = f.event_id
     AND f.place <= %(limit)s
  RETURNING 1)
SELECT (SELECT count(*) FROM changed) AS redelivered, (SELECT count(*) > %(limit)s FROM found) AS more;

-- @consumers
-- Who reads is no secret; how far it got is counted over the tenant's own rows.
SELECT c.consumer AS name, c.replayable, c.parks_keys,
       ARRAY(SELECT s.text || CASE WHEN s.is_prefix THEN '*' ELSE '' END FROM mesh.subscription s
              WHERE s.consumer = c.consumer ORDER BY 1) AS subjects,
       w.waiting, w.oldest_at, w.retrying, l.dead_letters
  FROM mesh.consumer c
 CROSS JOIN LATERAL (
   SELECT count(*) AS waiting, min(r.recorded_at) AS oldest_at, count(*) FILTER (WHERE r.attempts > 0) AS retrying
     FROM (SELECT d.recorded_at, d.attempts FROM mesh.delivery d
            WHERE d.consumer = c.consumer AND d.tenant_id = %(tenant_id)s LIMIT %(count_max)s) AS r) AS w
 CROSS JOIN LATERAL (
   SELECT count(*) AS dead_letters
     FROM (SELECT FROM mesh.dead_letter d
            WHERE d.tenant_id = %(tenant_id)s AND d.consumer = c.consumer LIMIT %(count_max)s) AS r) AS l
 WHERE c.consumer > %(after)s ORDER BY c.consumer LIMIT %(limit)s;

-- @failing_keys
-- Of each key the event that holds it up: the first of its letters, or the first that waits for its next try.
SELECT c.consumer, k.key, k.event_id, k.tries, k.last_error, k.next_at, k.parked
  FROM unnest(%(consumers)s::text[]) AS c (consumer)
 CROSS JOIN LATERAL (
   (SELECT p.key, l.event_id, l.attempts AS tries, l.last_error, NULL::timestamptz AS next_at, true AS parked
      FROM mesh.parked_key p
     CROSS JOIN LATERAL (
       SELECT d.event_id, d.attempts, d.last_error FROM mesh.dead_letter d
        WHERE d.tenant_id = %(tenant_id)s AND d.consumer = c.consumer AND d.key = p.key
        ORDER BY d.position, d.generation LIMIT 1) AS l
     WHERE p.tenant_id = %(tenant_id)s AND p.consumer = c.consumer ORDER BY p.key LIMIT %(keys_max)s)
   UNION ALL
   (SELECT DISTINCT ON (d.key) d.key, d.event_id, d.attempts, coalesce(d.last_error, ''), d.next_at, false
      FROM mesh.delivery d
     WHERE d.tenant_id = %(tenant_id)s AND d.consumer = c.consumer AND d.next_at IS NOT NULL
     ORDER BY d.key, d.position, d.generation LIMIT %(keys_max)s)
   ORDER BY parked DESC, key LIMIT %(keys_max)s) AS k
 ORDER BY c.consumer, k.parked DESC, k.key;

-- @consumer
SELECT replayable FROM mesh.consumer WHERE consumer = %(consumer)s;

-- @dead_letters
SELECT l.consumer, l.position, l.generation, l.event_id, coalesce(f.subject, '') AS subject, l.key,
       l.attempts AS tries, l.last_error, l.buried_at,
       EXISTS (SELECT FROM mesh.parked_key p
                WHERE p.tenant_id = l.tenant_id AND p.consumer = l.consumer AND p.lane = l.lane AND p.key = l.key) AS parked
  FROM mesh.dead_letter l
  LEFT JOIN mesh.feed f ON f.tenant_id = l.tenant_id AND f.position = l.position
 WHERE l.tenant_id = %(tenant_id)s AND (%(consumer)s::text IS NULL OR l.consumer = %(consumer)s)
   AND (l.consumer, l.position, l.generation) > (%(after_consumer)s, %(after_position)s, %(after_generation)s)
 ORDER BY l.consumer, l.position, l.generation LIMIT %(limit)s;

-- @replay_dead_letters
SELECT replayed, more FROM mesh.replay_dead_letters(
  %(consumer)s, %(key)s::text, %(event_ids)s::text[], %(limit)s);

-- @hold_generations
SELECT pg_advisory_xact_lock(hashtextextended('tollmesh.replay' || chr(1) || %(tenant_id)s || chr(1) || %(consumer)s, 0));

-- @begin_replay
-- The places of the period are looked up once: they are in the order of recording but for transactions that took long.
-- The 0 keeps the planner from walking through the places until it meets the period, which may lie at their other end.
WITH span AS (
  SELECT coalesce(min(f.position + 0) - 1, 0) AS first, coalesce(max(f.position + 0), 0) AS last FROM mesh.feed f
   WHERE f.tenant_id = %(tenant_id)s AND f.recorded_at >= %(start_at)s AND f.recorded_at < %(end_at)s)
INSERT INTO events.replay (tenant_id, consumer, generation, start_at, end_at, subjects, after_position, end_position,
                           requested_by, created_at)
SELECT %(tenant_id)s, %(consumer)s,
       1 + coalesce((SELECT max(r.generation) FROM events.replay r
                      WHERE r.tenant_id = %(tenant_id)s AND r.consumer = %(consumer)s), 0),
       %(start_at)s, %(end_at)s, %(subjects)s::text[], span.first, span.last, %(requested_by)s, %(now)s
  FROM span
RETURNING consumer, generation, start_at, end_at, subjects, after_position, end_position;

-- @hold_replay
SELECT consumer, generation, start_at, end_at, subjects, after_position, end_position FROM events.replay
 WHERE tenant_id = %(tenant_id)s AND consumer = %(consumer)s AND generation = %(generation)s FOR UPDATE;

-- @replay_page
SELECT replayed, last_position, more FROM mesh.replay_events(
  %(consumer)s, %(generation)s, %(start_at)s, %(end_at)s, %(texts)s::text[], %(prefixes)s::bool[],
  %(after_position)s, %(end_position)s, %(limit)s);

-- @advance_replay
UPDATE events.replay SET after_position = %(after_position)s, event_count = event_count + %(replayed)s,
       ended_at = CASE WHEN %(after_position)s >= end_position THEN coalesce(ended_at, %(now)s) END
 WHERE tenant_id = %(tenant_id)s AND consumer = %(consumer)s AND generation = %(generation)s
RETURNING consumer, generation, start_at, end_at, subjects, after_position, end_position;
