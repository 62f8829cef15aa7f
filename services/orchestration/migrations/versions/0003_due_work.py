"""Makes payments due work like any other: an epoch, tries, and what caused them; none beyond what is asked for."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"

_OLD_SIGNATURE = "orchestration.claim_due(timestamptz, text, integer, integer)"

_CLAIM_DUE_BEFORE = """
CREATE FUNCTION orchestration.claim_due(
  p_due_at timestamptz, p_owner text, p_lease_ms integer, p_batch integer,
  OUT tenant_id text, OUT payment_id text, OUT fence bigint, OUT correlation_id text
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE orchestration.payment p
     SET lease_owner = p_owner,
         lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0),
         fence = p.fence + 1
    FROM (SELECT d.tenant_id, d.payment_id
            FROM orchestration.payment d
           WHERE d.due_at <= p_due_at
             AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
           ORDER BY d.due_at LIMIT p_batch FOR UPDATE SKIP LOCKED) due
   WHERE p.tenant_id = due.tenant_id AND p.payment_id = due.payment_id
  RETURNING p.tenant_id, p.payment_id, p.fence, p.correlation_id;
END
"""


def upgrade() -> None:
    """Change the payments and how they are claimed."""
    op.execute(f"DROP FUNCTION {_OLD_SIGNATURE}")
    op.execute("ALTER TABLE orchestration.payment RENAME COLUMN fence TO epoch")
    op.execute(
        "ALTER TABLE orchestration.payment ADD COLUMN tries integer NOT NULL DEFAULT 0,"
        " ADD COLUMN causation_id text NOT NULL DEFAULT ''"
    )
    schema.queue(op, "orchestration", "payment", "payment_id")


def downgrade() -> None:
    """Change them back."""
    schema.drop_queue(op, "orchestration")
    op.execute("ALTER TABLE orchestration.payment DROP COLUMN causation_id, DROP COLUMN tries")
    op.execute("ALTER TABLE orchestration.payment RENAME COLUMN epoch TO fence")
    op.execute(_CLAIM_DUE_BEFORE)
    schema.grant_function(op, _OLD_SIGNATURE)
