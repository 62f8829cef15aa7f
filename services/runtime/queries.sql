Statements of the runtime's own tables, schema mesh. They run as the services' role, for the tenant of the
transaction.

-- @insert_audit
INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, before, after, request_id)
VALUES (%(tenant_id)s, %(audit_id)s, %(entity)s, %(entity_id)s, %(actor)s, %(before)s::jsonb, %(after)s::jsonb, %(request_id)s);

-- The newest first. Ids of one instant are in the order of their making.
-- @page_of_audit
-- Of large entries only as many are read as are within their stored bytes, one at least; `found` counts those that there are.
WITH page AS (
SELECT audit_id, entity, entity_id, actor, before, after, request_id, recorded_at,
       coalesce(pg_column_size(before), 0) + coalesce(pg_column_size(after), 0) AS bytes
  FROM mesh.audit
 WHERE tenant_id = %(tenant_id)s
   AND recorded_at >= %(start_at)s AND recorded_at < %(end_at)s
   AND (recorded_at, audit_id) < (%(before_at)s, %(before_id)s::uuid)
   AND (%(kinds)s::text[] = '{}' OR entity = ANY (%(kinds)s::text[]))
   AND (%(entity_id)s = '' OR entity_id = %(entity_id)s)
   AND (%(actor)s = '' OR actor = %(actor)s)
 ORDER BY recorded_at DESC, audit_id DESC
 LIMIT %(limit)s
), weighed AS (
SELECT p.*, count(*) OVER () AS found,
       sum(p.bytes) OVER (ORDER BY p.recorded_at DESC, p.audit_id DESC ROWS UNBOUNDED PRECEDING) - p.bytes AS before_it
  FROM page p
)
SELECT audit_id, entity, entity_id, actor, before::text AS before, after::text AS after, request_id, recorded_at, found
  FROM weighed
 WHERE before_it <= %(bytes)s
 ORDER BY recorded_at DESC, audit_id DESC;

-- @claim_request
-- A concurrent call with the same id waits here until the first one ends.
INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status)
VALUES (%(tenant_id)s, %(name)s, %(request_id)s, %(fingerprint)s, 'CLAIMED')
ON CONFLICT DO NOTHING
RETURNING request_id;

-- @claim_answered
-- Claims a request whose answer is known already: the id of what it makes.
INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status, response, done_at)
VALUES (%(tenant_id)s, %(name)s, %(request_id)s, %(fingerprint)s, 'DONE', %(response)s, clock_timestamp())
ON CONFLICT DO NOTHING
RETURNING request_id;

-- @read_request
SELECT fingerprint, status, response, error FROM mesh.idempotency
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND request_id = %(request_id)s;

-- @read_requests
SELECT name, request_id, fingerprint, response, error
  FROM unnest(%(names)s::text[], %(request_ids)s::uuid[]) AS asked (name, request_id)
  JOIN mesh.idempotency AS i USING (name, request_id)
 WHERE i.tenant_id = %(tenant_id)s AND i.status = 'DONE';

-- @store_answers
-- One that another process stores at the same time is waited for, and missing in what is returned.
INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status, response, error, done_at)
SELECT %(tenant_id)s, a.name, a.request_id, a.fingerprint, 'DONE', a.response, a.error, clock_timestamp()
  FROM unnest(%(names)s::text[], %(request_ids)s::uuid[], %(fingerprints)s::bytea[], %(responses)s::bytea[],
              %(errors)s::bytea[]) AS a (name, request_id, fingerprint, response, error)
    ON CONFLICT DO NOTHING
RETURNING request_id;

-- @hold_request
SELECT request_id FROM mesh.idempotency
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND request_id = %(request_id)s AND status = 'CLAIMED'
   FOR UPDATE;

-- @finish_request
UPDATE mesh.idempotency SET status = 'DONE', response = %(response)s, error = %(error)s, done_at = clock_timestamp()
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND request_id = %(request_id)s AND status = 'CLAIMED'
RETURNING request_id;

-- @note_refusal
-- The latest refusal of a request that is still open; no row when it is the same again.
UPDATE mesh.idempotency SET error = %(error)s
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND request_id = %(request_id)s AND status = 'CLAIMED'
   AND error IS DISTINCT FROM %(error)s::bytea
RETURNING request_id;

-- @resolve_api_key
SELECT tenant_id, key_id, name, scopes, expires_at, revoked_at FROM mesh.resolve_api_key(%(secret_sha256)s);

-- @insert_api_key
INSERT INTO mesh.api_key (tenant_id, key_id, prefix, secret_sha256, name, scopes, created_at, created_by, expires_at, parent_key_id)
VALUES (%(tenant_id)s, %(key_id)s, %(prefix)s, %(secret_sha256)s, %(name)s, %(scopes)s, %(created_at)s, %(created_by)s, %(expires_at)s, %(parent_key_id)s);

-- @hold_api_key
SELECT mesh.hold_api_key(%(key_id)s) AS works;

-- @list_api_keys
SELECT key_id, prefix, name, scopes, created_at, created_by, expires_at, revoked_at, parent_key_id, revoked_with, keys_ended
  FROM mesh.api_key
 WHERE tenant_id = %(tenant_id)s AND key_id > %(after)s ORDER BY key_id LIMIT %(limit)s;

-- @lock_api_key
SELECT key_id, prefix, name, scopes, created_at, created_by, expires_at, revoked_at, parent_key_id, revoked_with, keys_ended
  FROM mesh.api_key
 WHERE tenant_id = %(tenant_id)s AND key_id = %(key_id)s FOR UPDATE;

-- @revoke_api_key
UPDATE mesh.api_key SET revoked_at = %(revoked_at)s WHERE tenant_id = %(tenant_id)s AND key_id = %(key_id)s;

-- @end_keys_made_by
SELECT mesh.end_keys_made_by(%(key_id)s, %(revoked_at)s, %(actor)s, %(request_id)s) AS number;

-- @take_back_keys_made_by
SELECT mesh.take_back_keys_made_by(%(key_id)s) AS number;

-- @is_of_key
SELECT mesh.is_of_key(%(key_id)s, %(made)s) AS is_of_key;

-- @pass_on_keys_made_by
SELECT mesh.pass_on_keys_made_by(%(key_id)s);
