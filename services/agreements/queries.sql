Statements of agreements. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_agreement
INSERT INTO agreements.agreement (tenant_id, agreement_id, revision, created_at)
VALUES (%(tenant_id)s, %(agreement_id)s, %(revision)s, %(created_at)s);

-- @lock_agreement
-- Two that edit an agreement follow one another, and the second sees what the first has written.
SELECT revision FROM agreements.agreement
 WHERE tenant_id = %(tenant_id)s AND agreement_id = %(agreement_id)s FOR UPDATE;

-- @grow_agreement
UPDATE agreements.agreement SET revision = %(revision)s
 WHERE tenant_id = %(tenant_id)s AND agreement_id = %(agreement_id)s;

-- @insert_edit
INSERT INTO agreements.edit (tenant_id, agreement_id, revision, kind, body, effective_at, recorded_at, principal_id)
VALUES (%(tenant_id)s, %(agreement_id)s, %(revision)s, %(kind)s, %(body)s, %(effective_at)s, %(recorded_at)s,
        %(principal_id)s);

-- @edits
SELECT revision, kind, body, effective_at, recorded_at, principal_id
  FROM agreements.edit
 WHERE tenant_id = %(tenant_id)s AND agreement_id = %(agreement_id)s AND revision > %(after_revision)s
 ORDER BY revision
 LIMIT %(limit)s;
