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
WITH consumers AS MATERIALIZED (SELECT DISTINCT consumer FROM mesh.subscription)
SELECT f.position, e.event_id, e.subject, e.schema_version, e.tenant_id, e.key, e.message_name, e.payload,
       e.correlation_id, e.causation_id, e.traceparent, e.created_at,
       w.waiting, l.dead, greatest(w.tries, l.tries, 0) AS tries, w.next_at,
       coalesce(w.last_error, l.last_error, '') AS last_error, coalesce(k.attributes, '{}') AS kept
  FROM mesh.feed f
  JOIN mesh.event e ON e.tenant_id = f.tenant_id AND e.recorded_at = f.recorded_at AND e.event_id = f.event_id
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
 WHERE f.tenant_id = %(tenant_id)s AND f.position = ANY(%(positions)s) ORDER BY f.position;

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
DELETE FROM events.cloud_event k
 USING (SELECT c.event_id FROM events.cloud_event c
         WHERE c.tenant_id = %(tenant_id)s
           AND c.recorded_at < (SELECT min(e.recorded_at) FROM mesh.event e WHERE e.tenant_id = %(tenant_id)s)
         ORDER BY c.recorded_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS old
 WHERE k.tenant_id = %(tenant_id)s AND k.event_id = old.event_id;

-- @kept_attributes
SELECT event_id, attributes FROM events.cloud_event
 WHERE tenant_id = %(tenant_id)s AND event_id = ANY(%(event_ids)s);
