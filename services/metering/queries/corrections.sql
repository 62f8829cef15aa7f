
Versions of events that were corrected.

-- @lock_corrections
-- One batch of corrections of a tenant at a time: they are few, and the next version of an event is one more.
SELECT pg_advisory_xact_lock(hashtextextended('metering.event_version/' || %(tenant_id)s, 0));

-- @newest
SELECT event.event_key::text AS event_key, coalesce(newest.version, 0) AS version,
       coalesce(newest.fingerprint, event.fingerprint)::text AS fingerprint,
       coalesce(newest.cancelled, false) AS cancelled, event.request_id,
       coalesce(newest.org_id, event.org_id) AS org_id, coalesce(newest.project_id, event.project_id) AS project_id,
       coalesce(newest.sku, event.sku) AS sku, coalesce(newest.quantity, event.quantity) AS quantity,
       coalesce(newest.event_time, event.event_time) AS event_time, coalesce(newest.source, event.source) AS source,
       CASE WHEN newest.version IS NULL THEN event.metadata ELSE newest.metadata END AS metadata
  FROM metering.usage_key AS key
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
  LEFT JOIN LATERAL (SELECT * FROM metering.event_version AS version
                      WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key
                      ORDER BY version.version DESC LIMIT 1) AS newest ON true
 WHERE key.tenant_id = %(tenant_id)s AND key.event_key = ANY (%(event_keys)s::uuid[]);

-- @copy_originals
INSERT INTO metering.event_version (tenant_id, event_key, version, fingerprint, receipt_id, source, cancelled, org_id,
                                    project_id, sku, quantity, event_time, metadata, reason)
SELECT event.tenant_id, event.event_key, 0, event.fingerprint, event.receipt_id, event.source, false, event.org_id,
       event.project_id, event.sku, event.quantity, event.event_time, event.metadata, ''
  FROM metering.usage_key AS key
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
 WHERE key.tenant_id = %(tenant_id)s AND key.event_key = ANY (%(event_keys)s::uuid[])
    ON CONFLICT (tenant_id, event_key, version) DO NOTHING;

-- @insert_versions
INSERT INTO metering.event_version (tenant_id, receipt_id, event_key, version, cancelled, org_id, project_id, sku,
                                    quantity, event_time, source, metadata, fingerprint, reason)
SELECT %(tenant_id)s, %(receipt_id)s::uuid, event_key, version, cancelled, org_id, project_id, sku, quantity,
       event_time, source, metadata::jsonb, fingerprint, reason
  FROM unnest(%(event_keys)s::uuid[], %(versions)s::int[], %(cancelled)s::boolean[], %(org_ids)s::text[],
              %(project_ids)s::text[], %(skus)s::text[], %(quantities)s::numeric[], %(event_times)s::timestamptz[],
              %(sources)s::smallint[], %(metadata)s::text[], %(fingerprints)s::uuid[], %(reasons)s::text[])
       AS made (event_key, version, cancelled, org_id, project_id, sku, quantity, event_time, source, metadata,
                fingerprint, reason);

-- @versions
-- An event that was not corrected has one version, itself.
WITH event AS (
    SELECT event.*
      FROM metering.usage_key AS key
      JOIN metering.usage_event AS event
        ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
     WHERE key.tenant_id = %(tenant_id)s AND key.event_key = %(event_key)s::uuid
), version AS (
    SELECT version, event_time, receipt_id, source, cancelled, org_id, project_id, sku, quantity, metadata, reason
      FROM metering.event_version WHERE tenant_id = %(tenant_id)s AND event_key = %(event_key)s::uuid
    UNION ALL
    SELECT 0, event_time, receipt_id, source, false, org_id, project_id, sku, quantity, metadata, ''
      FROM event
     WHERE NOT EXISTS (SELECT FROM metering.event_version
                        WHERE tenant_id = %(tenant_id)s AND event_key = %(event_key)s::uuid)
)
SELECT version.version, version.event_time, version.receipt_id::text AS receipt_id, version.source, version.cancelled,
       version.org_id, version.project_id, version.sku, version.quantity, version.metadata, version.reason,
       receipt.ordinal, receipt.recorded_at, receipt.recorded_by, event.request_id
  FROM version
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
  CROSS JOIN event
 ORDER BY version.version DESC
 LIMIT %(limit)s;
