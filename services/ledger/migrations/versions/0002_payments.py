"""Finds the transfers of one payment, to compare what is booked of it with what was kept."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# Only charges (2001) and refunds (2002) of payments are in it: all other postings cost nothing more.
_OF_PAYMENT = """
CREATE INDEX transfer_of_payment ON ledger.transfer (tenant_id, (metadata ->> 'payment_id'))
 WHERE code IN (2001, 2002)
"""


def upgrade() -> None:
    """Make the index."""
    op.execute(_OF_PAYMENT)


def downgrade() -> None:
    """Drop the index."""
    op.execute("DROP INDEX ledger.transfer_of_payment")
