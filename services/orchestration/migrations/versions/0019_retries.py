"""What an instrument was tried with, and why it is not tried again."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0013"

_RULES = "'', 'NEVER_AGAIN', 'VISA_15_IN_30_DAYS', 'MASTERCARD_10_IN_24_HOURS', 'MASTERCARD_35_IN_30_DAYS'"


def upgrade() -> None:
    """Attempts that stand do not count: which instrument they tried is not told with them."""
    op.execute("ALTER TABLE orchestration.attempt ADD COLUMN instrument text NOT NULL DEFAULT ''")
    op.execute(
        "ALTER TABLE orchestration.attempt ADD COLUMN never_again boolean NOT NULL DEFAULT false"
    )
    op.execute(
        "ALTER TABLE orchestration.attempt ADD COLUMN withheld_by text NOT NULL DEFAULT ''"
        f" CHECK (withheld_by IN ({_RULES}))"
    )
    op.execute(
        "CREATE INDEX attempt_of_instrument ON orchestration.attempt (tenant_id, instrument, created_at)"
        " WHERE instrument <> ''"
    )
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN backoff_ms integer NOT NULL DEFAULT 100"
        " CHECK (backoff_ms BETWEEN 0 AND 60000)"
    )


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN backoff_ms")
    op.execute("DROP INDEX orchestration.attempt_of_instrument")
    for column in ("withheld_by", "never_again", "instrument"):
        op.execute(f"ALTER TABLE orchestration.attempt DROP COLUMN {column}")
