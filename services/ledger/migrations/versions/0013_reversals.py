"""What was taken back of a transfer, so that it is never more than was posted."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0013"
down_revision = "0012"

# Below zero where a recipe's amount was: the leg went the same way again.
_REVERSAL = """
CREATE TABLE ledger.reversal (
  tenant_id    text   NOT NULL,
  reversed_id  uuid   NOT NULL,
  transfer_id  uuid   NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  PRIMARY KEY (tenant_id, reversed_id, transfer_id)
)
"""
# Which transfers recipes have reversed before nobody has written down.
_WHOLE = """
INSERT INTO ledger.reversal (tenant_id, reversed_id, transfer_id, amount_minor)
SELECT tenant_id, reverses_id, transfer_id, amount_minor FROM ledger.transfer
 WHERE reverses_id IS NOT NULL AND amount_minor <> 0
"""


def upgrade() -> None:
    """Make the table, with what was reversed as a whole. What is in it can only be added to."""
    op.execute(_REVERSAL)
    op.execute(_WHOLE)
    schema.protect(op, "ledger", "reversal", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop it: the release before bounds nothing. The transfers stay."""
    op.execute("DROP TABLE ledger.reversal")
