"""Charges are posted by a recipe of the ledger; what it made of them is stored once they are settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# A process of the release before that is still running would post what is PENDING by a plan of its own: a second time,
# if this release has posted it and the answer was lost. The round that it plans for has another name from here on, so
# that it fails at reading a charge.
_UP = (
    "ALTER TABLE billing.charge RENAME COLUMN posting_round TO transfer_round",
    # None while the charge is PENDING, unless its transfers were frozen with it.
    "ALTER TABLE billing.charge ALTER COLUMN transfer_count DROP NOT NULL,"
    " ADD COLUMN posting_id uuid, ADD COLUMN recipe text, ADD COLUMN recipe_version integer,"
    " ADD CONSTRAINT charge_settled_with_transfers CHECK (status = 1 OR transfer_count IS NOT NULL),"
    " ADD CONSTRAINT charge_posting CHECK (num_nulls(posting_id, recipe, recipe_version) IN (0, 3)),"
    " ADD CONSTRAINT charge_posting_settled CHECK (status = 2 OR posting_id IS NULL)",
    # What the recipe makes of the accounts is the ledger's business.
    "ALTER TABLE billing.charge_transfer ALTER COLUMN debit_type DROP NOT NULL,"
    " ALTER COLUMN debit_owner DROP NOT NULL, ALTER COLUMN credit_type DROP NOT NULL,"
    " ALTER COLUMN credit_owner DROP NOT NULL,"
    " ADD CONSTRAINT charge_transfer_frozen"
    " CHECK (num_nulls(debit_type, debit_owner, credit_type, credit_owner) IN (0, 4))",
)

_UNPOSTED = sa.text("SELECT count(*) FROM billing.charge WHERE transfer_count IS NULL")

# The rule by which the release before named accounts, for columns that it reads but, once a charge is settled, has no
# use for.
_NAMED = """
       {side}_type = CASE split_part(t.{side}_account_id, ':', 1) WHEN 'receivable' THEN 'ASSET'
         WHEN 'revenue' THEN 'INCOME' WHEN 'commission' THEN 'EXPENSE' ELSE 'LIABILITY' END,
       {side}_owner = CASE split_part(t.{side}_account_id, ':', 1) WHEN 'receivable' THEN c.org_id
         WHEN 'payable' THEN l.partner_id ELSE '' END"""
_NAMES = f"""
UPDATE billing.charge_transfer AS t
   SET {_NAMED.format(side="debit")},
       {_NAMED.format(side="credit")}
  FROM billing.charge AS c JOIN billing.charge_line AS l USING (tenant_id, charge_id)
 WHERE t.debit_type IS NULL
   AND (l.tenant_id, l.charge_id, l.line_no) = (t.tenant_id, t.charge_id, t.line_no)
"""
_DOWN = (
    "ALTER TABLE billing.charge_transfer DROP CONSTRAINT charge_transfer_frozen,"
    " ALTER COLUMN debit_type SET NOT NULL, ALTER COLUMN debit_owner SET NOT NULL,"
    " ALTER COLUMN credit_type SET NOT NULL, ALTER COLUMN credit_owner SET NOT NULL",
    "ALTER TABLE billing.charge DROP CONSTRAINT charge_settled_with_transfers, DROP CONSTRAINT charge_posting,"
    " DROP CONSTRAINT charge_posting_settled, DROP COLUMN posting_id, DROP COLUMN recipe, DROP COLUMN recipe_version,"
    " ALTER COLUMN transfer_count SET NOT NULL",
    "ALTER TABLE billing.charge RENAME COLUMN transfer_round TO posting_round",
)


def upgrade() -> None:
    """Change the tables. What is frozen and PENDING stays as it is: it may be in the books, its answer lost."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Change them back.

    Raises:
        RuntimeError: a charge is PENDING that may be in the books under ids that the release before cannot know; it
            would post it again.
    """
    unposted = op.get_bind().execute(_UNPOSTED).scalar_one()
    if unposted:
        raise RuntimeError(
            f"{unposted} charges are not settled yet, and the release before might post them a second time: let this"
            " release settle them first (correct the accounts that POSTING_REFUSED names), then go back"
        )
    op.execute(_NAMES)
    for statement in _DOWN:
        op.execute(statement)
