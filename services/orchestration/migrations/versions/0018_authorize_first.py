"""Steps that are authorised first, and captured by themselves once every step has its amount."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0012"


_CAPTURES = "ALTER TABLE orchestration.payment DROP CONSTRAINT payment_capture_check"
_CAPTURE = (
    "ALTER TABLE orchestration.payment ADD CONSTRAINT payment_capture_check CHECK (capture IN ({}))"
)


def upgrade() -> None:
    """Payments that stand are charged step by step, as they were planned.

    New ones say AUTHORIZE_FIRST, so that a process of the release before cannot read them: it would end them without
    capturing what it finds authorised.
    """
    op.execute(_CAPTURES)
    op.execute(_CAPTURE.format("'AUTOMATIC', 'MANUAL', 'AUTHORIZE_FIRST'"))
    op.execute("ALTER TABLE orchestration.step ADD COLUMN holds boolean NOT NULL DEFAULT false")
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN split text NOT NULL DEFAULT 'AUTHORIZE_FIRST'"
        " CHECK (split IN ('AUTHORIZE_FIRST', 'CHARGE_IN_TURN'))"
    )


def downgrade() -> None:
    """Forget it; fails while a payment is under way that was planned so, for it could not be captured any more."""
    op.execute(
        "UPDATE orchestration.payment SET capture = 'AUTOMATIC'"
        " WHERE capture = 'AUTHORIZE_FIRST' AND due_at IS NULL"
    )
    op.execute(_CAPTURES)
    op.execute(_CAPTURE.format("'AUTOMATIC', 'MANUAL'"))
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN split")
    op.execute("ALTER TABLE orchestration.step DROP COLUMN holds")
