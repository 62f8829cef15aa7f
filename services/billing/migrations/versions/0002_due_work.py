"""Makes pending charges due work, and keeps the chain of calls that a charge belongs to."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

_UP = (
    "ALTER TABLE billing.charge RENAME COLUMN resume_at TO due_at",
    "ALTER TABLE billing.charge RENAME COLUMN resume_tries TO tries",
    "ALTER TABLE billing.charge ADD COLUMN lease_owner text, ADD COLUMN lease_until timestamptz,"
    " ADD COLUMN epoch bigint NOT NULL DEFAULT 0, ADD COLUMN correlation_id text NOT NULL DEFAULT '',"
    " ADD COLUMN causation_id text NOT NULL DEFAULT '',"
    " ADD CONSTRAINT charge_due_while_pending CHECK (status = 1 OR due_at IS NULL)",
    "DROP INDEX billing.charge_to_resume",
    "CREATE INDEX charge_due ON billing.charge (due_at) WHERE due_at IS NOT NULL",
    "DROP FUNCTION billing.tenants_to_resume(integer)",
)

_TENANTS_TO_RESUME = """
CREATE FUNCTION billing.tenants_to_resume(tenants_max integer) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT c.tenant_id FROM billing.charge c
   WHERE c.status = 1 AND c.resume_at <= clock_timestamp()
   LIMIT tenants_max;
END
"""

_DOWN = (
    "DROP INDEX billing.charge_due",
    # A lease is what due_at said before.
    "UPDATE billing.charge SET due_at = greatest(due_at, lease_until) WHERE lease_until IS NOT NULL",
    "ALTER TABLE billing.charge DROP CONSTRAINT charge_due_while_pending, DROP COLUMN causation_id,"
    " DROP COLUMN correlation_id, DROP COLUMN epoch, DROP COLUMN lease_until, DROP COLUMN lease_owner",
    "ALTER TABLE billing.charge RENAME COLUMN tries TO resume_tries",
    "ALTER TABLE billing.charge RENAME COLUMN due_at TO resume_at",
    "CREATE INDEX charge_to_resume ON billing.charge (resume_at) WHERE status = 1",
    _TENANTS_TO_RESUME,
)


def upgrade() -> None:
    """Change the charges."""
    for statement in _UP:
        op.execute(statement)
    schema.queue(op, "billing", "charge", "charge_id")


def downgrade() -> None:
    """Change them back."""
    schema.drop_queue(op, "billing")
    for statement in _DOWN:
        op.execute(statement)
    schema.grant_function(op, "billing.tenants_to_resume(integer)")
