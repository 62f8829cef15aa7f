"""Webhook endpoints, their secrets, deliveries and attempts."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make them."""


def downgrade() -> None:
    """Remove them."""
