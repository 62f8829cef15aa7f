"""Checks the steps of a payment that was refused and is planned again, as those of a new one are checked."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_TRIGGER = """
CREATE CONSTRAINT TRIGGER steps_sum_again AFTER UPDATE OF plan_id ON orchestration.payment
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION orchestration.check_steps_sum()
"""


def upgrade() -> None:
    """Make the trigger."""
    op.execute(_TRIGGER)


def downgrade() -> None:
    """Drop the trigger."""
    op.execute("DROP TRIGGER steps_sum_again ON orchestration.payment")
