"""Outcomes that an operator finds out, and what was charged after it had counted as not charged."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0010"
down_revision = "0014"

_STATUSES = (
    "'CREATED', 'SENT', 'SUCCEEDED', 'DECLINED', 'PENDING', 'UNKNOWN', 'NOT_CHARGED', 'NOT_SENT',"
    " 'VOIDED_UNSENT'"
)
_GUARD = """
CREATE UNIQUE INDEX {name} ON orchestration.attempt (tenant_id, payment_id, step_index)
 WHERE operation IN ('CHARGE', 'AUTHORIZE') AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', {more}'SUCCEEDED')
"""

# As in 0009; `parents` can be followed by what undoes them, `live` counts against what is left.
_CHECK_LEFT = """
CREATE OR REPLACE FUNCTION orchestration.check_left() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  parent orchestration.attempt%ROWTYPE;
  followed bigint;
  closed boolean;
BEGIN
  SELECT * INTO parent FROM orchestration.attempt AS a
   WHERE a.tenant_id = NEW.tenant_id AND a.attempt_id = NEW.parent_id FOR UPDATE;
  IF NOT FOUND OR parent.payment_id <> NEW.payment_id OR parent.step_index <> NEW.step_index
     OR parent.processor_id <> NEW.processor_id OR NOT ({parents})
     OR NOT ((NEW.operation = 'REFUND' AND parent.operation IN ('CHARGE', 'CAPTURE'))
             OR (NEW.operation IN ('CAPTURE', 'VOID') AND parent.operation = 'AUTHORIZE'))
  THEN
    RAISE check_violation USING MESSAGE =
      format('%s of %s follows no success that it could follow', NEW.operation, NEW.attempt_id);
  END IF;
  SELECT coalesce(sum(a.amount_minor), 0), coalesce(bool_or(a.closes), false) INTO followed, closed
    FROM orchestration.attempt AS a
   WHERE a.tenant_id = NEW.tenant_id AND a.parent_id = NEW.parent_id
     AND a.status IN ({live});
  IF closed OR followed + NEW.amount_minor > parent.amount_minor THEN
    RAISE check_violation USING MESSAGE =
      format('%s of %s exceeds what is left of %s', NEW.operation, NEW.attempt_id, NEW.parent_id);
  END IF;
  RETURN NEW;
END
$body$
"""
_BEFORE = {
    "parents": "parent.status = 'SUCCEEDED'",
    "live": "'CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED'",
}
_NOW = {
    "parents": "parent.status = 'SUCCEEDED' OR (parent.status = 'LATE_CHARGE' AND NEW.operation <> 'CAPTURE')",
    "live": "'CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED', 'MANUAL', 'LATE_CHARGE', 'REVERSED'",
}

_SIGNATURE = "orchestration.manual_outcomes()"
_MANUAL = """
CREATE FUNCTION orchestration.manual_outcomes(OUT manual bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT count(*) FROM (SELECT FROM orchestration.attempt WHERE status = 'MANUAL' LIMIT 10000) a;
END
"""

# A payment that has failed, or was let go, is worked on again while something of it that was taken too late is given
# back; one that was refused never is.
_CHECKS = (
    (
        "attempt",
        "attempt_status_check",
        f"status IN ({_STATUSES}, 'MANUAL', 'LATE_CHARGE', 'REVERSED')",
        f"status IN ({_STATUSES})",
    ),
    (
        "payment",
        "payment_check",
        "status <> 'REFUSED' OR due_at IS NULL",
        "status NOT IN ('FAILED', 'REFUSED', 'VOIDED') OR due_at IS NULL",
    ),
)


def upgrade() -> None:
    """Make room for them."""
    op.execute(
        "ALTER TABLE orchestration.attempt ADD COLUMN replayed_at timestamptz,"
        " ADD COLUMN resolved_by text NOT NULL DEFAULT '', ADD COLUMN evidence text NOT NULL DEFAULT ''"
    )
    for table, name, check, _ in _CHECKS:
        _change(table, name, check)
    _guard("'MANUAL', ")
    op.execute(_CHECK_LEFT.format(**_NOW))
    op.execute(
        "CREATE INDEX attempt_manual ON orchestration.attempt (sent_at) WHERE status = 'MANUAL'"
    )
    op.execute(_MANUAL)
    schema.grant_function(op, _SIGNATURE)


def downgrade() -> None:
    """Take it back. What this release alone can carry on keeps it from that."""
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
    op.execute("DROP INDEX orchestration.attempt_manual")
    op.execute(_CHECK_LEFT.format(**_BEFORE))
    _guard("")
    for table, name, _, check in _CHECKS:
        _change(table, name, check)
    op.execute(
        "ALTER TABLE orchestration.attempt DROP COLUMN evidence, DROP COLUMN resolved_by, DROP COLUMN replayed_at"
    )


def _guard(more: str) -> None:
    """Make the guard anew before the old one goes: no moment is without."""
    op.execute(_GUARD.format(name="one_live_taking_next", more=more))
    op.execute("DROP INDEX orchestration.one_live_taking")
    op.execute("ALTER INDEX orchestration.one_live_taking_next RENAME TO one_live_taking")


def _change(table: str, name: str, check: str) -> None:
    op.execute(
        f"ALTER TABLE orchestration.{table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({check})"
    )
