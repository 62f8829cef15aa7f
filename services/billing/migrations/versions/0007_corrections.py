"""Charges of the difference to what was billed, and charges that are taken back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"

_OVERLAP = (
    "ALTER TABLE billing.charge ADD CONSTRAINT charge_overlap EXCLUDE USING gist"
    " (tenant_id WITH =, org_id WITH =, tstzrange(start_at, end_at) WITH &&)"
)
_UP = (
    "ALTER TABLE billing.charge"
    " ADD COLUMN kind smallint NOT NULL DEFAULT 1,"
    " ADD COLUMN adjusts_charge_id text,"
    " ADD COLUMN correction_no integer NOT NULL DEFAULT 0,"
    " ADD COLUMN cause text NOT NULL DEFAULT '',"
    " ADD COLUMN reversed_by_charge_id text,"
    " DROP CONSTRAINT charge_status_check, DROP CONSTRAINT charge_check1,"
    " DROP CONSTRAINT charge_posting_settled, DROP CONSTRAINT charge_overlap,"
    " ADD CONSTRAINT charge_status CHECK (status IN (1, 2, 3)),"
    " ADD CONSTRAINT charge_settled CHECK ((status > 1) = (settled_at IS NOT NULL)),"
    " ADD CONSTRAINT charge_posting_settled CHECK (status > 1 OR posting_id IS NULL),"
    " ADD CONSTRAINT charge_reversed CHECK ((status = 3) = (reversed_by_charge_id IS NOT NULL)),"
    " ADD CONSTRAINT charge_kind CHECK (kind IN (1, 2, 3)),"
    " ADD CONSTRAINT charge_correction CHECK ((kind > 1) = (adjusts_charge_id IS NOT NULL)"
    " AND (kind > 1) = (correction_no > 0)),"
    " ADD CONSTRAINT charge_corrected FOREIGN KEY (tenant_id, adjusts_charge_id) REFERENCES billing.charge",
    # Live charges never overlap: corrections have the period of what they correct, and a reversal frees it.
    f"{_OVERLAP} WHERE (kind = 1 AND status < 3)",
    "CREATE UNIQUE INDEX charge_correction_no ON billing.charge (tenant_id, adjusts_charge_id, correction_no)"
    " WHERE adjusts_charge_id IS NOT NULL",
    # What had been billed before, of the lines of a correction.
    "ALTER TABLE billing.charge_line ADD COLUMN quantity_before numeric(38,18),"
    " ADD COLUMN amount_before_minor bigint, ADD COLUMN partner_amount_before_minor bigint,"
    " ADD CONSTRAINT charge_line_before"
    " CHECK (num_nulls(quantity_before, amount_before_minor, partner_amount_before_minor) IN (0, 3))",
)
_DOWN = (
    "ALTER TABLE billing.charge_line DROP CONSTRAINT charge_line_before, DROP COLUMN quantity_before,"
    " DROP COLUMN amount_before_minor, DROP COLUMN partner_amount_before_minor",
    "DROP INDEX billing.charge_correction_no",
    "ALTER TABLE billing.charge DROP CONSTRAINT charge_overlap, DROP CONSTRAINT charge_corrected,"
    " DROP CONSTRAINT charge_correction, DROP CONSTRAINT charge_kind, DROP CONSTRAINT charge_reversed,"
    " DROP CONSTRAINT charge_posting_settled, DROP CONSTRAINT charge_settled, DROP CONSTRAINT charge_status,"
    " DROP COLUMN kind, DROP COLUMN adjusts_charge_id, DROP COLUMN correction_no, DROP COLUMN cause,"
    " DROP COLUMN reversed_by_charge_id,"
    " ADD CONSTRAINT charge_status_check CHECK (status IN (1, 2)),"
    " ADD CONSTRAINT charge_check1 CHECK ((status = 2) = (settled_at IS NOT NULL)),"
    " ADD CONSTRAINT charge_posting_settled CHECK (status = 2 OR posting_id IS NULL)",
    _OVERLAP,
)
_CORRECTIONS = sa.text("SELECT count(*) FROM billing.charge WHERE kind > 1 OR status = 3")


def upgrade() -> None:
    """Change the tables. Charges of before are charges of usage."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Change them back.

    Raises:
        RuntimeError: there are corrections, which the release before would take for charges of usage that overlap.
    """
    corrections = op.get_bind().execute(_CORRECTIONS).scalar_one()
    if corrections:
        raise RuntimeError(
            f"{corrections} charges are corrections or were reversed, which the release before does not know: it cannot"
            " be gone back to without them"
        )
    for statement in _DOWN:
        op.execute(statement)
