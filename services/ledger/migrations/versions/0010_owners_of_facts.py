"""The owners of facts post them: the ledger reacts to no payment any more."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0010"
down_revision = "0009"

_CONSUMER = "ledger.payments"
_OF_PAYMENT = """
CREATE INDEX transfer_of_payment ON ledger.transfer (tenant_id, (metadata ->> 'payment_id'))
 WHERE code IN (2001, 2002)
"""
# What is in the books by a recipe is handled, or the release before would book it under ids of its own.
_HANDLED = f"""
INSERT INTO mesh.inbox (tenant_id, consumer, event_id, generation, recorded_at)
SELECT f.tenant_id, '{_CONSUMER}', f.event_id, 0, f.recorded_at FROM mesh.feed f
 WHERE f.subject IN ('payment.step.succeeded', 'payment.step.refunded', 'payment.received', 'payment.failed')
   AND EXISTS (SELECT FROM ledger.posting p
                WHERE p.tenant_id = f.tenant_id AND p.reference_kind = 'payment' AND p.reference_id = f.key)
ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    """Drop what only the reaction used, and its consumer. Facts that it had not handled are posted by their owner."""
    schema.drop_consumer(op, _CONSUMER)
    op.execute("DROP INDEX ledger.transfer_of_payment")


def downgrade() -> None:
    """Make the index again. The release before subscribes by itself, to facts of payments that no recipe has posted."""
    op.execute(_OF_PAYMENT)
    op.execute(_HANDLED)
