Statements of the runtime's own tables, schema mesh. They run as the services' role, for the tenant of the
transaction.

-- @insert_audit
INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, before, after, request_id)
VALUES (%(tenant_id)s, %(audit_id)s, %(entity)s, %(entity_id)s, %(actor)s, %(before)s::jsonb, %(after)s::jsonb, %(request_id)s);

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

-- @is_of_key
SELECT mesh.is_of_key(%(key_id)s, %(made)s) AS is_of_key;

-- @pass_on_keys_made_by
SELECT mesh.pass_on_keys_made_by(%(key_id)s);
