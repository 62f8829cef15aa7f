"""How far a lane was gone through, kept with its lease.

Who claims a lane starts behind what was handled before: until it is vacuumed, and that is not before the last
old snapshot is gone, a handled delivery costs every reader that passes it.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add them."""
    # `low` counts only while low_epoch is still the lane's epoch.
    op.execute(
        "ALTER TABLE mesh.lane_lease ADD low bigint NOT NULL DEFAULT -1, "
        "ADD low_epoch bigint NOT NULL DEFAULT -1"
    )


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE mesh.lane_lease DROP low, DROP low_epoch")
