"""Keys end with the key that made them.

Who made a key stood in `created_by` all along. Keys that were made with the key of a run of `tollmesh up` were never
meant to end with that run, which is how each of those keys ended: its end by the operator is in the audit trail, and
what it made stays. What was made by any other key that was revoked ends now.
"""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0009"
down_revision = "0008"

_ADOPT = """
UPDATE mesh.api_key k SET parent_key_id = k.created_by
 WHERE EXISTS (SELECT FROM mesh.api_key m WHERE m.key_id = k.created_by)
   AND NOT EXISTS (
     SELECT FROM mesh.audit a
      WHERE a.entity = 'api_key' AND a.entity_id = k.created_by AND a.actor = 'operator'
        AND a.after ->> 'revoked_at' IS NOT NULL)
"""

_END_ORPHANS = """
WITH RECURSIVE gone AS (
  SELECT k.tenant_id, k.key_id, r.key_id AS root
    FROM mesh.api_key k JOIN mesh.api_key r ON r.key_id = k.parent_key_id
   WHERE r.revoked_at IS NOT NULL AND k.revoked_at IS NULL
  UNION
  SELECT k.tenant_id, k.key_id, g.root
    FROM gone g JOIN mesh.api_key k ON k.parent_key_id = g.key_id WHERE k.revoked_at IS NULL
), ended AS (
  UPDATE mesh.api_key k SET revoked_at = clock_timestamp(), revoked_with = g.root
    FROM gone g WHERE k.tenant_id = g.tenant_id AND k.key_id = g.key_id AND k.revoked_at IS NULL
  RETURNING k.*
), counted AS (
  UPDATE mesh.api_key r SET keys_ended = e.number
    FROM (SELECT revoked_with, count(*) AS number FROM ended GROUP BY 1) e WHERE r.key_id = e.revoked_with
)
INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, before, after)
SELECT e.tenant_id, gen_random_uuid(), 'api_key', e.key_id, 'migration',
       jsonb_build_object('revoked_at', NULL),
       jsonb_build_object('revoked_at', e.revoked_at, 'revoked_with', e.revoked_with)
  FROM ended e
"""

# The maker may be another tenant's. Its row is held until the new key is stored, or the end of the maker, which
# holds it against this, would not see the new key.
_HOLD = """
CREATE FUNCTION mesh.hold_api_key(of_key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  PERFORM FROM mesh.api_key k
    WHERE k.key_id = of_key AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp()) FOR SHARE;
  RETURN FOUND;
END
$body$
"""

# Makers before what they made: two that end keys of one family at once meet at the upper one first. Each level is a
# statement of its own, which sees what was made while it waited for the level above.
_END = """
CREATE FUNCTION mesh.end_keys_made_by(of_key text, at timestamptz, by_actor text, of_request text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  makers text[] := ARRAY[of_key];
  number bigint := 0;
BEGIN
  PERFORM FROM mesh.api_key k WHERE k.tenant_id = mesh.current_tenant() AND k.key_id = of_key FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  LOOP
    WITH ended AS (
      UPDATE mesh.api_key k SET revoked_at = at, revoked_with = of_key
       WHERE k.parent_key_id = ANY (makers) AND k.revoked_at IS NULL
      RETURNING k.*
    ), audited AS (
      INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, before, after, request_id)
      SELECT e.tenant_id, gen_random_uuid(), 'api_key', e.key_id, by_actor,
             shown || jsonb_build_object('revoked_at', NULL),
             shown || jsonb_build_object('revoked_at', e.revoked_at, 'revoked_with', e.revoked_with), of_request
        FROM ended e, LATERAL (SELECT jsonb_build_object(
          'name', e.name, 'prefix', e.prefix, 'scopes', e.scopes, 'expires_at', e.expires_at) AS shown) s
    )
    SELECT array_agg(e.key_id) INTO makers FROM ended e;
    EXIT WHEN makers IS NULL;
    number := number + cardinality(makers);
  END LOOP;
  UPDATE mesh.api_key k SET keys_ended = number WHERE k.tenant_id = mesh.current_tenant() AND k.key_id = of_key;
  RETURN number;
END
$body$
"""

_HAND_OVER = """
CREATE FUNCTION mesh.pass_on_keys_made_by(of_key text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mesh.api_key k SET parent_key_id = m.parent_key_id
    FROM mesh.api_key m
   WHERE m.tenant_id = mesh.current_tenant() AND m.key_id = of_key AND k.parent_key_id = of_key;
END
"""
# Whoever holds a key must not be able to free what it made from it, nor what was made by that.
_IN_LINE = """
CREATE FUNCTION mesh.is_of_key(of_key text, made text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE line AS (
    SELECT k.key_id, k.parent_key_id FROM mesh.api_key k WHERE k.key_id = made
    UNION
    SELECT k.key_id, k.parent_key_id FROM line l JOIN mesh.api_key k ON k.key_id = l.parent_key_id
  )
  SELECT EXISTS (SELECT FROM line WHERE key_id = of_key);
END
"""
_FUNCTIONS = (
    "hold_api_key(text)",
    "end_keys_made_by(text, timestamptz, text, text)",
    "pass_on_keys_made_by(text)",
    "is_of_key(text, text)",
)


def upgrade() -> None:
    """Let keys know their makers, and end what should have ended."""
    op.execute(
        "ALTER TABLE mesh.api_key ADD COLUMN parent_key_id text CHECK (parent_key_id <> key_id),"
        " ADD COLUMN revoked_with text, ADD COLUMN keys_ended bigint NOT NULL DEFAULT 0"
    )
    op.execute(_ADOPT)
    op.execute(_END_ORPHANS)
    op.execute("CREATE UNIQUE INDEX api_key_id ON mesh.api_key (key_id)")
    op.execute(
        "CREATE INDEX api_key_parent ON mesh.api_key (parent_key_id) WHERE parent_key_id IS NOT NULL"
    )
    service = schema.role_names(op).service
    for statement in (_HOLD, _END, _HAND_OVER, _IN_LINE):
        op.execute(statement)
    for function in _FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION mesh.{function} FROM PUBLIC")
        op.execute(f'GRANT EXECUTE ON FUNCTION mesh.{function} TO "{service}"')


def downgrade() -> None:
    """Forget it. What has ended stays so: a key that was revoked must not come back."""
    for function in _FUNCTIONS:
        op.execute(f"DROP FUNCTION mesh.{function}")
    op.execute("DROP INDEX mesh.api_key_parent, mesh.api_key_id")
    op.execute(
        "ALTER TABLE mesh.api_key DROP COLUMN parent_key_id, DROP COLUMN revoked_with, DROP COLUMN keys_ended"
    )
