"""How many attempts have an outcome that no processor has told, and since when."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0006"

_SIGNATURE = "orchestration.unknown_outcomes()"
_FUNCTION = """
CREATE FUNCTION orchestration.unknown_outcomes(OUT unknown bigint, OUT oldest_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT count(*), min(a.sent_at) FROM (
    SELECT sent_at FROM orchestration.attempt WHERE status = 'UNKNOWN' ORDER BY sent_at LIMIT 10000) a;
END
"""


def upgrade() -> None:
    """Count them for all tenants, as the gauges of an operator do."""
    op.execute(
        "CREATE INDEX attempt_unknown ON orchestration.attempt (sent_at) WHERE status = 'UNKNOWN'"
    )
    op.execute(_FUNCTION)
    schema.grant_function(op, _SIGNATURE)


def downgrade() -> None:
    """Drop both."""
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
    op.execute("DROP INDEX orchestration.attempt_unknown")
