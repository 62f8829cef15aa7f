"""The transfers of a charge, as they were planned when it was frozen; those of older charges are written down now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

from services.runtime import schema

revision = "0003"
down_revision = "0002"

_TRANSFER = """
CREATE TABLE billing.charge_transfer (
  tenant_id         text        NOT NULL,
  charge_id         text        NOT NULL,
  posting_round     integer     NOT NULL CHECK (posting_round > 0),
  transfer_no       integer     NOT NULL CHECK (transfer_no > 0),
  transfer_id       uuid        NOT NULL,
  line_no           integer     NOT NULL,
  leg               text        NOT NULL,
  debit_account_id  text        NOT NULL,
  debit_type        text        NOT NULL,
  debit_owner       text        NOT NULL,
  credit_account_id text        NOT NULL,
  credit_type       text        NOT NULL,
  credit_owner      text        NOT NULL,
  currency_code     text        NOT NULL,
  amount_minor      bigint      NOT NULL CHECK (amount_minor > 0),
  code              integer     NOT NULL,
  effective_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, charge_id, posting_round, transfer_no),
  FOREIGN KEY (tenant_id, charge_id, line_no) REFERENCES billing.charge_line
)
"""

# What follows is the rule by which releases before this one derived the transfers of a charge at each reading. It is
# written out here, so that it stays what it was.
_NAMESPACE = UUID("5b1f9f4e-3c02-5d0f-9c57-70e0c8a4f1d2")
_PART_ROWS = 2_000
_LINES = sa.text(
    "SELECT c.tenant_id, c.charge_id, c.org_id, c.end_at, c.currency_code, c.posting_round,"
    " l.line_no, l.sku, l.amount_minor, l.partner_id, l.partner_amount_minor"
    " FROM billing.charge AS c JOIN billing.charge_line AS l USING (tenant_id, charge_id)"
    " ORDER BY c.tenant_id, c.charge_id, l.line_no"
).execution_options(yield_per=_PART_ROWS)
_INSERT = sa.text("""
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, debit_type, debit_owner, credit_account_id, credit_type,
                                     credit_owner, currency_code, amount_minor, code, effective_at)
VALUES (:tenant_id, :charge_id, :posting_round, :transfer_no, :transfer_id, :line_no, :leg,
        :debit_account_id, :debit_type, :debit_owner, :credit_account_id, :credit_type,
        :credit_owner, :currency_code, :amount_minor, :code, :effective_at)
""")
_COUNT = """
UPDATE billing.charge AS c SET transfer_count =
  (SELECT count(*) FROM billing.charge_transfer AS t WHERE t.tenant_id = c.tenant_id AND t.charge_id = c.charge_id)
"""


def upgrade() -> None:
    """Create the table and fill it. Nobody may change or delete what is in it: a round of its own has rows of its own.

    Without a count of them a charge cannot be stored, so a process of an older release that is still running makes
    none that lacks its transfers.
    """
    op.execute(_TRANSFER)
    op.execute(
        "ALTER TABLE billing.charge ADD COLUMN transfer_count integer CHECK (transfer_count >= 0)"
    )
    _fill()
    op.execute(_COUNT)
    op.execute("ALTER TABLE billing.charge ALTER COLUMN transfer_count SET NOT NULL")
    schema.protect(op, "billing", "charge_transfer", privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop the transfers: the releases before derive the same ones, of each round, from the lines."""
    op.execute("ALTER TABLE billing.charge DROP COLUMN transfer_count")
    op.execute("DROP TABLE billing.charge_transfer")


def _fill() -> None:
    bind = op.get_bind()
    part: list[dict[str, Any]] = []
    for _, lines in groupby(bind.execute(_LINES), attrgetter("tenant_id", "charge_id")):
        transfers = (transfer for line in lines for transfer in _transfers(line))
        for transfer_no, transfer in enumerate(transfers, start=1):
            part.append({**transfer, "transfer_no": transfer_no})
            if len(part) == _PART_ROWS:
                bind.execute(_INSERT, part)
                part = []
    if part:
        bind.execute(_INSERT, part)


def _transfers(line: Any) -> Iterator[dict[str, Any]]:
    currency, partner = line.currency_code, line.partner_id
    receivable = (f"receivable:{line.org_id}:{currency}", "ASSET", line.org_id)
    revenue = (f"revenue:{line.sku}:{currency}", "INCOME", "")
    legs = [("gross", 1001, receivable, revenue, line.amount_minor)]
    if partner:
        commission = (f"commission:{currency}", "EXPENSE", "")
        payable = (f"payable:partner:{partner}:{currency}", "LIABILITY", partner)
        legs.append(("partner", 1002, commission, payable, line.partner_amount_minor))
    for leg, code, owing, earning, amount in legs:
        if amount == 0:
            continue
        debit, credit = (owing, earning) if amount > 0 else (earning, owing)
        parts = ("charge", line.charge_id, str(line.posting_round), str(line.line_no), leg)
        yield {
            "tenant_id": line.tenant_id,
            "charge_id": line.charge_id,
            "posting_round": line.posting_round,
            "transfer_id": uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)),
            "line_no": line.line_no,
            "leg": leg,
            "debit_account_id": debit[0],
            "debit_type": debit[1],
            "debit_owner": debit[2],
            "credit_account_id": credit[0],
            "credit_type": credit[1],
            "credit_owner": credit[2],
            "currency_code": currency,
            "amount_minor": abs(amount),
            "code": code,
            "effective_at": line.end_at - timedelta(microseconds=1),
        }
