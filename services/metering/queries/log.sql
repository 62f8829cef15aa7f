
The log of receipts: its leaves, nodes and heads, and the events that are hashed.

-- @lock_log
-- One closes the log of a tenant at a time; the primary key of log_leaf would refuse the second.
SELECT pg_advisory_xact_lock(hashtextextended('metering.log/' || %(tenant_id)s::text, 0));

-- @log_position
-- All of one snapshot: how many leaves there are, and how many there will be.
SELECT coalesce((SELECT max(ordinal) FROM metering.log_leaf WHERE tenant_id = %(tenant_id)s), 0) AS tree_size,
       coalesce((SELECT last_ordinal FROM metering.receipt_counter WHERE tenant_id = %(tenant_id)s), 0) AS last_ordinal;

-- @unlogged
SELECT tenant_id FROM metering.unlogged(%(after)s, %(tenants)s);

-- @receipts_behind
-- Ordinals have no gap and are committed in their order: what is seen here is all there is up to the last of it.
SELECT receipt_id::text AS receipt_id, ordinal, kind, accepted, duplicate, conflict, rejected, recorded_at
  FROM metering.receipt
 WHERE tenant_id = %(tenant_id)s AND ordinal > %(after)s AND ordinal <= %(up_to)s
 ORDER BY ordinal
 LIMIT %(limit)s;

-- @read_receipt
SELECT receipt_id::text AS receipt_id, ordinal, kind, accepted, duplicate, conflict, rejected, recorded_at
  FROM metering.receipt
 WHERE tenant_id = %(tenant_id)s AND receipt_id = %(receipt_id)s::uuid;

-- @event_hashes
-- What is hashed of events, in the form that receipts.proto describes. A verification writes the same from the rows by
-- itself.
WITH said AS (
    SELECT receipt_id, event_key, fingerprint, 0 AS version, false AS cancelled, '' AS reason, request_id, org_id,
           project_id, sku, quantity, event_time, source, metadata
      FROM metering.usage_event
     WHERE tenant_id = %(tenant_id)s AND receipt_id = ANY (%(receipt_ids)s::uuid[])
    UNION ALL
    SELECT version.receipt_id, version.event_key, version.fingerprint, version.version, version.cancelled,
           version.reason, event.request_id, version.org_id, version.project_id, version.sku, version.quantity,
           version.event_time, version.source, version.metadata
      FROM metering.event_version AS version
      JOIN metering.usage_key AS key ON key.tenant_id = %(tenant_id)s AND key.event_key = version.event_key
      JOIN metering.usage_event AS event
        ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
     WHERE version.tenant_id = %(tenant_id)s AND version.receipt_id = ANY (%(receipt_ids)s::uuid[])
       AND version.version > 0
)
SELECT receipt_id::text AS receipt_id,
       string_agg(sha256('\x00'::bytea || convert_to(concat(
              '{"cancelled":', cancelled::integer, ',"event_key":"', encode(uuid_send(event_key), 'hex'),
              '","event_time_us":', (extract(epoch FROM event_time) * 1000000)::bigint,
              ',"fingerprint":"', encode(uuid_send(fingerprint), 'hex'), '","format":1,"metadata":',
              CASE WHEN metadata IS NULL OR metadata = '{}' THEN '{}'
                   ELSE (SELECT '{' || string_agg(to_json(m.key) || ':' || to_json(m.value), ','
                                                  ORDER BY m.key COLLATE "C") || '}'
                           FROM jsonb_each_text(metadata) AS m) END,
              ',"org_id":', to_json(org_id), ',"project_id":', to_json(project_id),
              ',"quantity":"', trim_scale(quantity), '","reason":', to_json(reason),
              ',"request_id":', to_json(request_id), ',"sku":', to_json(sku), ',"source":', source,
              ',"version":', version, '}'), 'UTF8')), ''::bytea ORDER BY event_key) AS hashes
  FROM said
 GROUP BY receipt_id;

-- @read_events
-- The events of receipts, as they are stored, in the order in which they are hashed.
SELECT receipt_id::text AS receipt_id, event_key::text AS event_key, fingerprint::text AS fingerprint, version,
       cancelled, reason, request_id, org_id, project_id, sku, quantity, event_time, source, metadata
  FROM (SELECT receipt_id, event_key, fingerprint, 0 AS version, false AS cancelled, '' AS reason, request_id, org_id,
               project_id, sku, quantity, event_time, source, metadata
          FROM metering.usage_event
         WHERE tenant_id = %(tenant_id)s AND receipt_id = ANY (%(receipt_ids)s::uuid[])
        UNION ALL
        SELECT version.receipt_id, version.event_key, version.fingerprint, version.version, version.cancelled,
               version.reason, event.request_id, version.org_id, version.project_id, version.sku, version.quantity,
               version.event_time, version.source, version.metadata
          FROM metering.event_version AS version
          JOIN metering.usage_key AS key ON key.tenant_id = %(tenant_id)s AND key.event_key = version.event_key
          JOIN metering.usage_event AS event
            ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
         WHERE version.tenant_id = %(tenant_id)s AND version.receipt_id = ANY (%(receipt_ids)s::uuid[])
           AND version.version > 0) AS said
 WHERE %(after)s::uuid IS NULL OR event_key > %(after)s::uuid
 ORDER BY receipt_id, event_key
 LIMIT %(limit)s;

-- @differing_originals
-- An event that was corrected counts by its versions, of which the first is a copy of it as it was sent.
SELECT event.receipt_id::text AS receipt_id, event.request_id
  FROM metering.usage_event AS event
  JOIN metering.event_version AS copy
    ON copy.tenant_id = %(tenant_id)s AND copy.event_key = event.event_key AND copy.version = 0
 WHERE event.tenant_id = %(tenant_id)s AND event.receipt_id = ANY (%(receipt_ids)s::uuid[])
   AND (event.event_time, event.fingerprint, event.receipt_id, event.source, event.org_id, event.project_id, event.sku,
        event.quantity, coalesce(event.metadata, '{}'))
       IS DISTINCT FROM
       (copy.event_time, copy.fingerprint, copy.receipt_id, copy.source, copy.org_id, copy.project_id, copy.sku,
        copy.quantity, coalesce(copy.metadata, '{}'))
 ORDER BY event.event_key
 LIMIT %(limit)s;

-- @insert_leaves
INSERT INTO metering.log_leaf (tenant_id, ordinal, closed_at, events_root, hash)
SELECT %(tenant_id)s, ordinal, %(now)s, events_root, hash
  FROM unnest(%(ordinals)s::bigint[], %(events_roots)s::bytea[], %(hashes)s::bytea[])
       AS made (ordinal, events_root, hash);

-- @insert_nodes
INSERT INTO metering.log_node (tenant_id, level, node_index, hash)
SELECT %(tenant_id)s, level, node_index, hash
  FROM unnest(%(levels)s::smallint[], %(indexes)s::bigint[], %(hashes)s::bytea[]) AS made (level, node_index, hash);

-- @insert_head
INSERT INTO metering.log_head (tenant_id, tree_size, closed_at, root_hash)
VALUES (%(tenant_id)s, %(tree_size)s, %(now)s, %(root_hash)s);

-- @read_leaves
SELECT ordinal, events_root, hash, closed_at FROM metering.log_leaf
 WHERE tenant_id = %(tenant_id)s AND ordinal = ANY (%(ordinals)s::bigint[]);

-- @read_nodes
SELECT node.level, node.node_index, node.hash
  FROM unnest(%(levels)s::smallint[], %(indexes)s::bigint[]) AS asked (level, node_index)
  JOIN metering.log_node AS node
    ON node.tenant_id = %(tenant_id)s AND node.level = asked.level AND node.node_index = asked.node_index;

-- @list_heads
SELECT tree_size, root_hash, closed_at FROM metering.log_head
 WHERE tenant_id = %(tenant_id)s AND tree_size < %(before)s
 ORDER BY tree_size DESC
 LIMIT %(limit)s;

-- @heads_between
SELECT tree_size, root_hash, closed_at FROM metering.log_head
 WHERE tenant_id = %(tenant_id)s AND tree_size > %(after)s AND tree_size <= %(up_to)s
 ORDER BY tree_size;
