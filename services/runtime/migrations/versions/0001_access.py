"""The tenant of a transaction, API keys, idempotency records and the audit trail."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# COST 1: it is called once a statement, whatever the planner thinks.
_CURRENT_TENANT = """
CREATE FUNCTION mesh.current_tenant() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  -- Empty, not missing, once an earlier transaction of the session has set it.
  tenant text := nullif(current_setting('mesh.tenant', true), '');
BEGIN
  IF tenant IS NULL THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'this transaction names no tenant',
      HINT = 'SELECT set_config(''mesh.tenant'', $1, true) as its first statement';
  END IF;
  RETURN tenant;
END
$body$
"""

_API_KEY = """
CREATE TABLE mesh.api_key (
  tenant_id     text        NOT NULL,
  key_id        text        NOT NULL,
  prefix        text        NOT NULL,
  secret_sha256 bytea       NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
  name          text        NOT NULL,
  scopes        text[]      NOT NULL,
  created_at    timestamptz NOT NULL,
  created_by    text        NOT NULL,
  expires_at    timestamptz,
  revoked_at    timestamptz,
  PRIMARY KEY (tenant_id, key_id)
)
"""

# A key is looked up before its tenant is known, so the lookup runs as the owner. It answers only to who holds
# the secret: the hash is the whole condition.
_RESOLVE_API_KEY = """
CREATE FUNCTION mesh.resolve_api_key(
  sha256 bytea,
  OUT tenant_id text, OUT key_id text, OUT name text, OUT scopes text[],
  OUT expires_at timestamptz, OUT revoked_at timestamptz
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT k.tenant_id, k.key_id, k.name, k.scopes, k.expires_at, k.revoked_at
    FROM mesh.api_key k WHERE k.secret_sha256 = sha256;
END
"""

_IDEMPOTENCY = """
CREATE TABLE mesh.idempotency (
  tenant_id   text        NOT NULL,
  name        text        NOT NULL,
  request_id  uuid        NOT NULL,
  fingerprint bytea       NOT NULL,
  status      text        NOT NULL CHECK (status IN ('CLAIMED', 'DONE')),
  response    bytea,
  error       bytea,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  done_at     timestamptz,
  PRIMARY KEY (tenant_id, name, request_id),
  CHECK (status = 'CLAIMED' OR (response IS NULL) <> (error IS NULL))
)
"""

_AUDIT = """
CREATE TABLE mesh.audit (
  tenant_id   text        NOT NULL,
  audit_id    uuid        NOT NULL,
  entity      text        NOT NULL,
  entity_id   text        NOT NULL,
  actor       text        NOT NULL,
  before      jsonb,
  after       jsonb,
  request_id  text,
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, audit_id)
)
"""


def upgrade() -> None:
    """Make them."""
    names = schema.role_names(op)
    op.execute(_CURRENT_TENANT)
    op.execute(_API_KEY)
    op.execute(_RESOLVE_API_KEY)
    op.execute("REVOKE ALL ON FUNCTION mesh.resolve_api_key(bytea) FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION mesh.resolve_api_key(bytea) TO "{names.service}"')
    op.execute(_IDEMPOTENCY)
    op.execute(_AUDIT)
    op.execute(
        "CREATE INDEX audit_entity ON mesh.audit (tenant_id, entity, entity_id, recorded_at)"
    )
    schema.protect(op, "mesh", "api_key", privileges=("SELECT", "INSERT", "UPDATE"))
    # Kept for good: a money request may be made again long after.
    schema.protect(op, "mesh", "idempotency", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "mesh", "audit", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE mesh.audit, mesh.idempotency")
    op.execute("DROP FUNCTION mesh.resolve_api_key(bytea)")
    op.execute("DROP TABLE mesh.api_key")
    op.execute("DROP FUNCTION mesh.current_tenant()")
