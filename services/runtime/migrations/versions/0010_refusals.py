"""Opens requests again whose stored refusal depends on what others change; until now it was their answer for ever."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

# Every refusal that is about the request itself has the code INVALID_ARGUMENT. The refusal stays on record.
_OPEN = """
UPDATE mesh.idempotency SET status = 'CLAIMED', done_at = NULL
 WHERE status = 'DONE' AND error IS NOT NULL
   AND convert_from(error, 'UTF8')::json ->> 'code' <> 'INVALID_ARGUMENT'
"""
_CLOSE = """
UPDATE mesh.idempotency SET status = 'DONE', done_at = clock_timestamp()
 WHERE status = 'CLAIMED' AND error IS NOT NULL AND response IS NULL
"""


def upgrade() -> None:
    """Open them."""
    op.execute(_OPEN)


def downgrade() -> None:
    """Make their latest refusals answers again."""
    op.execute(_CLOSE)
