"""The transfers of a charge, as they were planned when it was frozen; those of older charges are written down now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby, islice
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid5

import psycopg
import sqlalchemy as sa
from alembic import op

from services.runtime.postgres import schema

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
_COPY = """
COPY billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                              debit_account_id, debit_type, debit_owner, credit_account_id, credit_type, credit_owner,
                              currency_code, amount_minor, code, effective_at) FROM STDIN
"""
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
    connection = bind.connection.driver_connection
    assert isinstance(connection, psycopg.Connection), "migrations run by psycopg"
    rows = _all_transfers(bind.execute(_LINES))
    # In parts, because nothing else can be read while a COPY is open.
    while part := [*islice(rows, _PART_ROWS)]:
        with connection.cursor().copy(_COPY) as copy:
            for row in part:
                copy.write_row(row)


def _all_transfers(all_lines: Iterable[Any]) -> Iterator[tuple[object, ...]]:
    for _, lines in groupby(all_lines, attrgetter("tenant_id", "charge_id")):
        transfers = ((line, transfer) for line in lines for transfer in _transfers(line))
        for transfer_no, (line, transfer) in enumerate(transfers, start=1):
            yield (line.tenant_id, line.charge_id, line.posting_round, transfer_no, *transfer)


def _transfers(line: Any) -> Iterator[tuple[object, ...]]:
    """Give the transfers of a line, from transfer_id on."""
    currency, partner = line.currency_code, line.partner_id
    receivable = (f"receivable:{line.org_id}:{currency}", "ASSET", line.org_id)
    revenue = (f"revenue:{line.sku}:{currency}", "INCOME", "")
    legs = [("gross", 1001, receivable, revenue, line.amount_minor)]
    if partner:
        commission = (f"commission:{currency}", "EXPENSE", "")
        payable = (f"payable:partner:{partner}:{currency}", "LIABILITY", partner)
        legs.append(("partner", 1002, commission, payable, line.partner_amount_minor))
    effective_at = line.end_at - timedelta(microseconds=1)
    for leg, code, owing, earning, amount in legs:
        if amount == 0:
            continue
        debit, credit = (owing, earning) if amount > 0 else (earning, owing)
        parts = ("charge", line.charge_id, str(line.posting_round), str(line.line_no), leg)
        transfer_id = uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))
        yield (
            *(transfer_id, line.line_no, leg, *debit, *credit),
            *(currency, abs(amount), code, effective_at),
        )
