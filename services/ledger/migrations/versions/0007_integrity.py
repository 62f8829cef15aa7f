"""Blocks that chain the transfers, signed heads, who verifies; no more rights on what was posted than are needed."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0006"

_BLOCK = """
CREATE TABLE ledger.block (
  tenant_id      text        NOT NULL,
  block_no       bigint      NOT NULL CHECK (block_no > 0),
  first_batch_no bigint      NOT NULL,
  first_position integer     NOT NULL,
  last_batch_no  bigint      NOT NULL,
  last_position  integer     NOT NULL,
  transfer_count integer     NOT NULL CHECK (transfer_count > 0),
  transfer_total bigint      NOT NULL CHECK (transfer_total >= transfer_count),
  previous_hash  bytea       NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash           bytea       NOT NULL CHECK (octet_length(hash) = 32),
  recorded_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, block_no),
  CHECK ((first_batch_no, first_position) <= (last_batch_no, last_position))
)
"""

# The private key is sealed under a key from outside of the database. Public keys stay for good: old heads need them.
_SIGNING_KEY = """
CREATE TABLE ledger.signing_key (
  tenant_id  text        NOT NULL,
  key_no     integer     NOT NULL CHECK (key_no > 0),
  key_id     text        NOT NULL,
  public_key bytea       NOT NULL CHECK (octet_length(public_key) = 32),
  sealed     bytea       NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_no)
)
"""

_SIGNED_HEAD = """
CREATE TABLE ledger.signed_head (
  tenant_id      text        NOT NULL,
  block_no       bigint      NOT NULL,
  hash           bytea       NOT NULL,
  transfer_count bigint      NOT NULL,
  signed_at      timestamptz NOT NULL,
  key_id         text        NOT NULL,
  public_key     bytea       NOT NULL,
  signature      bytea       NOT NULL,
  PRIMARY KEY (tenant_id, block_no)
)
"""

_VERIFICATION = """
CREATE TABLE ledger.verification (
  tenant_id   text        NOT NULL,
  owner       uuid        NOT NULL,
  lease_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_id)
)
"""

_INDEXES = (
    # The order of the chain.
    "CREATE INDEX transfer_in_order ON ledger.transfer (tenant_id, batch_no, position)",
    # The entries of a batch, which all have its time; equal keys take next to no room.
    "CREATE INDEX entry_by_time ON ledger.entry (tenant_id, recorded_at)",
    # What posted or voided a hold.
    "CREATE INDEX transfer_of_hold ON ledger.transfer (tenant_id, pending_id) WHERE pending_id IS NOT NULL",
)

# Steps from tenant to tenant by the index, and looks behind the newest block of each.
_UNCHAINED = """
CREATE FUNCTION ledger.unchained(p_after text, p_tenants integer, OUT tenant_id text, OUT is_unchained boolean)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE tenants AS (
    (SELECT b.tenant_id, 1 AS n FROM ledger.balance b WHERE b.tenant_id > p_after ORDER BY b.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.tenant_id FROM ledger.balance b WHERE b.tenant_id > t.tenant_id ORDER BY b.tenant_id LIMIT 1),
           t.n + 1
      FROM tenants t WHERE t.tenant_id IS NOT NULL AND t.n < p_tenants
  )
  SELECT t.tenant_id,
         EXISTS (SELECT FROM ledger.transfer x
                  WHERE x.tenant_id = t.tenant_id
                    AND (x.batch_no, x.position) > (coalesce(k.last_batch_no, -1), coalesce(k.last_position, -1)))
    FROM tenants t
    LEFT JOIN LATERAL (SELECT b.last_batch_no, b.last_position FROM ledger.block b
                        WHERE b.tenant_id = t.tenant_id ORDER BY b.block_no DESC LIMIT 1) AS k ON true
   WHERE t.tenant_id IS NOT NULL
   ORDER BY t.tenant_id;
END
"""

# What may change of a row that stays; everything else about it is a fact.
_CHANGING = {
    "transfer_id": "fingerprint, result",
    "hold": "remaining_minor, state, due_at, lease_owner, lease_until",
    "balance": "debits_posted, credits_posted, last_seq, debits_pending, credits_pending, closed, updated_at",
}
_CLAIM = "tenant_id, transfer_id, fingerprint, result, recorded_at"
# Claims of transactions that ended are nobody's to correct; the rows of today get the number of this transaction.
_CLAIMED_BY = "ALTER TABLE ledger.transfer_id ADD COLUMN claimed_by xid8 NOT NULL DEFAULT pg_current_xact_id()"
_OWN_CLAIM = (
    "CREATE POLICY own_claim_{verb} ON ledger.transfer_id AS RESTRICTIVE FOR {verb} TO {service}"
    " USING (claimed_by = pg_current_xact_id())"
)


def upgrade() -> None:
    """Make the tables, and take rights away."""
    service = _service()
    for statement in (_BLOCK, _SIGNING_KEY, _SIGNED_HEAD, _VERIFICATION, *_INDEXES, _UNCHAINED):
        op.execute(statement)
    for table in ("block", "signing_key", "signed_head"):
        schema.protect(op, "ledger", table, privileges=schema.APPEND_ONLY)
    schema.protect(op, "ledger", "verification", privileges=schema.APPEND_ONLY)
    op.execute(f"GRANT UPDATE (owner, lease_until) ON ledger.verification TO {service}")
    schema.grant_function(op, "ledger.unchained(text, integer)")
    op.execute(f"GRANT SELECT ON SEQUENCE ledger.batch_no TO {service}")
    for table, columns in _CHANGING.items():
        op.execute(f"REVOKE UPDATE ON ledger.{table} FROM {service}")
        op.execute(f"GRANT UPDATE ({columns}) ON ledger.{table} TO {service}")
    op.execute(_CLAIMED_BY)
    op.execute(f"REVOKE INSERT ON ledger.transfer_id FROM {service}")
    op.execute(f"GRANT INSERT ({_CLAIM}) ON ledger.transfer_id TO {service}")
    for verb in ("UPDATE", "DELETE"):
        op.execute(_OWN_CLAIM.format(verb=verb, service=service))


def downgrade() -> None:
    """Drop them: the chain is lost, and begins anew with the next upgrade. Give the rights back."""
    service = _service()
    for verb in ("UPDATE", "DELETE"):
        op.execute(f"DROP POLICY own_claim_{verb} ON ledger.transfer_id")
    op.execute("ALTER TABLE ledger.transfer_id DROP COLUMN claimed_by")
    op.execute(f"REVOKE INSERT ({_CLAIM}) ON ledger.transfer_id FROM {service}")
    op.execute(f"GRANT INSERT ON ledger.transfer_id TO {service}")
    for table, columns in _CHANGING.items():
        op.execute(f"REVOKE UPDATE ({columns}) ON ledger.{table} FROM {service}")
        op.execute(f"GRANT UPDATE ON ledger.{table} TO {service}")
    op.execute(f"REVOKE SELECT ON SEQUENCE ledger.batch_no FROM {service}")
    op.execute("DROP FUNCTION ledger.unchained(text, integer)")
    for index in ("transfer_in_order", "entry_by_time", "transfer_of_hold"):
        op.execute(f"DROP INDEX ledger.{index}")
    for table in ("verification", "signed_head", "signing_key", "block"):
        op.execute(f"DROP TABLE ledger.{table}")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
