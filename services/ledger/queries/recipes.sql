Recipes of tenants, and postings of recipes.

Locks of postings come before all others of a batch, in the order of their keys.

-- @lock_recipe
SELECT pg_advisory_xact_lock(hashtextextended('ledger.recipe:' || %(tenant_id)s || ':' || %(name)s, 0));

-- @insert_recipe
INSERT INTO ledger.recipe (tenant_id, name, version, content, created_at)
VALUES (%(tenant_id)s, %(name)s, %(version)s, %(content)s::jsonb, %(now)s);

-- @read_recipes
-- Version 0 asks for the newest.
SELECT w.version AS asked, r.name, r.version, r.content, r.created_at
  FROM unnest(%(names)s::text[], %(versions)s::integer[]) AS w (name, version)
 CROSS JOIN LATERAL
       (SELECT name, version, content, created_at
          FROM ledger.recipe
         WHERE tenant_id = %(tenant_id)s AND name = w.name AND (w.version = 0 OR version = w.version)
         ORDER BY version DESC
         LIMIT 1) AS r;

-- @list_recipes
SELECT DISTINCT ON (name) name, version, content, created_at
  FROM ledger.recipe
 WHERE tenant_id = %(tenant_id)s AND name > %(after)s
 ORDER BY name, version DESC
 LIMIT %(limit)s;

-- @lock_postings
-- A thousand keys for all: a lock of each posting's own would fill the server's table of locks.
SELECT pg_advisory_xact_lock(hashtext('ledger.posting'), k.key)
  FROM unnest(%(keys)s::integer[]) AS k (key);

-- @read_postings
SELECT posting_id, recipe, version, reference_kind, reference_id, reference_part, parameters, legs, groups, transfer_ids,
       effective_at, recorded_at
  FROM ledger.posting
 WHERE tenant_id = %(tenant_id)s AND posting_id = ANY (%(posting_ids)s::uuid[]);

-- @insert_posting
INSERT INTO ledger.posting (tenant_id, posting_id, recipe, version, reference_kind, reference_id, reference_part,
                            parameters, legs, groups, transfer_ids, effective_at, recorded_at)
VALUES (%(tenant_id)s, %(posting_id)s, %(recipe)s, %(version)s, %(reference_kind)s, %(reference_id)s,
        %(reference_part)s, %(parameters)s::jsonb, %(legs)s::text[], %(groups)s::integer[], %(transfer_ids)s::uuid[],
        %(effective_at)s, %(now)s);
