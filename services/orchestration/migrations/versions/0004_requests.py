"""Which request made a payment is kept in the records of requests, as for every other use case."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

_NAME = "orchestration.create_payment"


def upgrade() -> None:
    """Move the hashes of the requests to the records."""
    op.execute(
        "INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status, response, done_at)"
        f" SELECT tenant_id, '{_NAME}', request_key, request_hash, 'DONE', convert_to(payment_id, 'UTF8'), created_at"
        "   FROM orchestration.payment"
    )
    op.execute(
        "ALTER TABLE orchestration.payment DROP CONSTRAINT payment_tenant_id_request_key_key,"
        " DROP COLUMN request_hash"
    )


def downgrade() -> None:
    """Move the hashes back."""
    op.execute(
        "ALTER TABLE orchestration.payment ADD COLUMN request_hash bytea"
        " CHECK (octet_length(request_hash) = 32)"
    )
    op.execute(
        "UPDATE orchestration.payment AS payment SET request_hash = record.fingerprint"
        "  FROM mesh.idempotency AS record"
        f" WHERE record.tenant_id = payment.tenant_id AND record.name = '{_NAME}'"
        "   AND record.request_id = payment.request_key"
    )
    op.execute(
        "ALTER TABLE orchestration.payment ALTER COLUMN request_hash SET NOT NULL,"
        " ADD UNIQUE (tenant_id, request_key)"
    )
    op.execute(f"DELETE FROM mesh.idempotency WHERE name = '{_NAME}'")
