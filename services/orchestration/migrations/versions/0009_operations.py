"""Authorisations, captures, voids and partial refunds: what follows a success never exceeds what is left of it."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0009"
down_revision = "0008"

_INSTRUCTION = """
CREATE TABLE orchestration.instruction (
  tenant_id      text        NOT NULL,
  instruction_id text        NOT NULL,
  payment_id     text        NOT NULL,
  ordinal        integer     NOT NULL CHECK (ordinal >= 0),
  operation      text        NOT NULL CHECK (operation IN ('CAPTURE', 'VOID', 'REFUND')),
  amount_minor   bigint      NOT NULL CHECK (amount_minor > 0),
  keep_open      boolean     NOT NULL,
  reason         text        NOT NULL,
  created_at     timestamptz NOT NULL,
  created_by     text        NOT NULL,
  PRIMARY KEY (tenant_id, instruction_id),
  UNIQUE (tenant_id, payment_id, ordinal),
  FOREIGN KEY (tenant_id, payment_id) REFERENCES orchestration.payment
)
"""

# What follows a success: under its lock, so that of two at once the second sees the first. The row of the payment is
# locked as well by whoever works on it; this holds whatever the code above it does.
_CHECK_LEFT = """
CREATE FUNCTION orchestration.check_left() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  parent orchestration.attempt%ROWTYPE;
  followed bigint;
  closed boolean;
BEGIN
  SELECT * INTO parent FROM orchestration.attempt AS a
   WHERE a.tenant_id = NEW.tenant_id AND a.attempt_id = NEW.parent_id FOR UPDATE;
  IF NOT FOUND OR parent.payment_id <> NEW.payment_id OR parent.step_index <> NEW.step_index
     OR parent.processor_id <> NEW.processor_id OR parent.status <> 'SUCCEEDED'
     OR NOT ((NEW.operation = 'REFUND' AND parent.operation IN ('CHARGE', 'CAPTURE'))
             OR (NEW.operation IN ('CAPTURE', 'VOID') AND parent.operation = 'AUTHORIZE'))
  THEN
    RAISE check_violation USING MESSAGE =
      format('%s of %s follows no success that it could follow', NEW.operation, NEW.attempt_id);
  END IF;
  SELECT coalesce(sum(a.amount_minor), 0), coalesce(bool_or(a.closes), false) INTO followed, closed
    FROM orchestration.attempt AS a
   WHERE a.tenant_id = NEW.tenant_id AND a.parent_id = NEW.parent_id
     AND a.status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED');
  IF closed OR followed + NEW.amount_minor > parent.amount_minor THEN
    RAISE check_violation USING MESSAGE =
      format('%s of %s exceeds what is left of %s', NEW.operation, NEW.attempt_id, NEW.parent_id);
  END IF;
  RETURN NEW;
END
$body$
"""
_TRIGGER = """
CREATE TRIGGER check_left BEFORE INSERT ON orchestration.attempt
   FOR EACH ROW WHEN (NEW.parent_id <> '') EXECUTE FUNCTION orchestration.check_left()
"""

_ONE_LIVE_TAKING = """
CREATE UNIQUE INDEX one_live_taking ON orchestration.attempt (tenant_id, payment_id, step_index)
 WHERE operation IN ('CHARGE', 'AUTHORIZE') AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED')
"""
_ONE_LIVE_CHARGE = """
CREATE UNIQUE INDEX one_live_charge ON orchestration.attempt (tenant_id, payment_id, step_index)
 WHERE operation = 'CHARGE' AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED')
"""
_ONE_LIVE_REFUND = """
CREATE UNIQUE INDEX one_live_refund ON orchestration.attempt (tenant_id, parent_id)
 WHERE operation = 'REFUND' AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING', 'SUCCEEDED')
"""
_OF_PARENT = "CREATE INDEX attempt_of_parent ON orchestration.attempt (tenant_id, parent_id) WHERE parent_id <> ''"

_BOOK_SETTLED = """
CREATE OR REPLACE TRIGGER book_settled AFTER UPDATE OF status ON orchestration.attempt
   FOR EACH ROW WHEN (NEW.status = 'SUCCEEDED' AND OLD.status <> 'SUCCEEDED'{moving})
   EXECUTE FUNCTION orchestration.book_settled()
"""
_MOVING = " AND NEW.operation IN ('CHARGE', 'CAPTURE', 'REFUND')"

# Names that Postgres gave the checks of columns and of the table.
_CHECKS = (
    (
        "attempt",
        "attempt_operation_check",
        "operation IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'CHARGE', 'REFUND')",
        "operation IN ('CHARGE', 'REFUND')",
    ),
    (
        "attempt",
        "attempt_check",
        "(operation IN ('CAPTURE', 'VOID', 'REFUND')) = (parent_id <> '')",
        "(operation = 'REFUND') = (parent_id <> '')",
    ),
    (
        "payment",
        "payment_status_check",
        "status IN ('PENDING', 'RESOLVING', 'COMPENSATING', 'COMPENSATION_STUCK', 'SUCCEEDED', 'PARTIALLY_PAID',"
        " 'FAILED', 'REFUSED', 'AUTHORIZED', 'VOIDED')",
        "status IN ('PENDING', 'RESOLVING', 'COMPENSATING', 'COMPENSATION_STUCK', 'SUCCEEDED', 'PARTIALLY_PAID',"
        " 'FAILED', 'REFUSED')",
    ),
    (
        "payment",
        "payment_check",
        "status NOT IN ('FAILED', 'REFUSED', 'VOIDED') OR due_at IS NULL",
        "status NOT IN ('SUCCEEDED', 'PARTIALLY_PAID', 'FAILED', 'REFUSED') OR due_at IS NULL",
    ),
    (
        "sandbox_order",
        "sandbox_order_operation_check",
        "operation IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'CHARGE', 'REFUND')",
        "operation IN ('CHARGE', 'REFUND')",
    ),
)


def upgrade() -> None:
    """Make room for them."""
    op.execute(_INSTRUCTION)
    schema.protect(op, "orchestration", "instruction", privileges=schema.APPEND_ONLY)
    op.execute(
        "ALTER TABLE orchestration.attempt ADD COLUMN instruction_id text NOT NULL DEFAULT '',"
        " ADD COLUMN closes boolean NOT NULL DEFAULT false,"
        " ADD CHECK (NOT closes OR operation = 'CAPTURE')"
    )
    op.execute(
        "ALTER TABLE orchestration.sandbox_order ADD COLUMN closes boolean NOT NULL DEFAULT false"
    )
    for table in ("payment", "merchant_config"):
        op.execute(
            f"ALTER TABLE orchestration.{table} ADD COLUMN capture text NOT NULL DEFAULT 'AUTOMATIC'"
            " CHECK (capture IN ('AUTOMATIC', 'MANUAL'))"
        )
    for table, name, check, _ in _CHECKS:
        _change(table, name, check)
    op.execute(_ONE_LIVE_TAKING)
    op.execute("DROP INDEX orchestration.one_live_charge")
    op.execute(_OF_PARENT)
    for statement in (_CHECK_LEFT, _TRIGGER, _BOOK_SETTLED.format(moving=_MOVING)):
        op.execute(statement)
    op.execute("DROP INDEX orchestration.one_live_refund")


def downgrade() -> None:
    """Take it back. What this release alone can carry on keeps it from that."""
    op.execute(_ONE_LIVE_REFUND)
    op.execute("DROP TRIGGER check_left ON orchestration.attempt")
    op.execute("DROP FUNCTION orchestration.check_left()")
    op.execute(_BOOK_SETTLED.format(moving=""))
    op.execute("DROP INDEX orchestration.attempt_of_parent")
    op.execute(_ONE_LIVE_CHARGE)
    op.execute("DROP INDEX orchestration.one_live_taking")
    for table, name, _, check in _CHECKS:
        _change(table, name, check)
    for table in ("payment", "merchant_config"):
        op.execute(f"ALTER TABLE orchestration.{table} DROP COLUMN capture")
    op.execute("ALTER TABLE orchestration.sandbox_order DROP COLUMN closes")
    op.execute("ALTER TABLE orchestration.attempt DROP COLUMN closes, DROP COLUMN instruction_id")
    op.execute("DROP TABLE orchestration.instruction")


def _change(table: str, name: str, check: str) -> None:
    op.execute(
        f"ALTER TABLE orchestration.{table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({check})"
    )
