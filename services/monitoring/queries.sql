Statements of schema `monitoring`. They run as the services' role, for the tenant of the transaction.

-- @lock_contracts
-- Registrations of one tenant wait for one another: they are rare, and a new id has no row to lock.
SELECT pg_advisory_xact_lock(hashtextextended('monitoring.contract|' || %(tenant_id)s, 0));

-- @read_contracts
SELECT contract_id, title, description, owner, severity, kind, runbook, version, registered_at
  FROM monitoring.contract
 WHERE tenant_id = %(tenant_id)s AND contract_id = ANY(%(contract_ids)s);

-- @list_contracts
SELECT contract_id, title, description, owner, severity, kind, runbook, version, registered_at
  FROM monitoring.contract
 WHERE tenant_id = %(tenant_id)s AND contract_id > %(after)s
 ORDER BY contract_id LIMIT %(limit)s;

-- @put_contract
INSERT INTO monitoring.contract
  (tenant_id, contract_id, title, description, owner, severity, kind, runbook, version, registered_at)
VALUES (%(tenant_id)s, %(contract_id)s, %(title)s, %(description)s, %(owner)s, %(severity)s, %(kind)s,
        %(runbook)s, %(version)s, %(registered_at)s)
ON CONFLICT (tenant_id, contract_id) DO UPDATE
   SET title = excluded.title, description = excluded.description, owner = excluded.owner,
       severity = excluded.severity, kind = excluded.kind, runbook = excluded.runbook,
       version = excluded.version, registered_at = excluded.registered_at;

-- @insert_violations
-- Sorted, so that two batches with the same violations wait for one another and never in a circle.
INSERT INTO monitoring.violation
  (tenant_id, violation_id, contract_id, contract_version, request_id, severity, message, service,
   subject_id, occurred_at, recorded_at, fingerprint, fingerprint_algorithm)
SELECT %(tenant_id)s, v.violation_id, v.contract_id, v.contract_version, v.request_id, v.severity, v.message,
       v.service, v.subject_id, v.occurred_at, %(recorded_at)s, v.fingerprint, %(fingerprint_algorithm)s
  FROM unnest(%(violation_ids)s::text[], %(contract_ids)s::text[], %(contract_versions)s::int[],
              %(request_ids)s::text[], %(severities)s::text[], %(messages)s::text[], %(services)s::text[],
              %(subject_ids)s::text[], %(occurred_at)s::timestamptz[], %(fingerprints)s::bytea[])
       AS v (violation_id, contract_id, contract_version, request_id, severity, message, service,
             subject_id, occurred_at, fingerprint)
 ORDER BY v.violation_id
ON CONFLICT (tenant_id, violation_id) DO NOTHING
RETURNING violation_id;
