"""Charges as the releases before recipes stored them: with the transfers that they were about to post."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from services.runtime.ids import derived_uuid

_LINES = """
SELECT c.charge_id, c.org_id, c.end_at, c.currency_code, l.line_no, l.sku, l.amount_minor, l.partner_id,
       l.partner_amount_minor
  FROM billing.charge AS c JOIN billing.charge_line AS l USING (tenant_id, charge_id)
 WHERE c.tenant_id = %s AND c.status = 1 ORDER BY c.charge_id, l.line_no
"""
_TRANSFER = """
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, debit_type, debit_owner, credit_account_id, credit_type,
                                     credit_owner, currency_code, amount_minor, code, effective_at)
SELECT %s, %s, 1, 1 + count(*), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
  FROM billing.charge_transfer WHERE tenant_id = %s AND charge_id = %s
"""
_COUNT = """
UPDATE billing.charge AS c SET transfer_count =
  (SELECT count(*) FROM billing.charge_transfer AS t WHERE t.tenant_id = c.tenant_id AND t.charge_id = c.charge_id)
 WHERE c.tenant_id = %s AND c.status = 1
"""


def freeze(owner_url: str, tenant_id: str) -> list[str]:
    """Store the transfers of a tenant's PENDING charges, as the release before did; returns their ids in order."""
    made = []
    with psycopg.connect(owner_url, row_factory=dict_row) as owner:
        for line in owner.execute(_LINES, [tenant_id]).fetchall():
            for row in _transfers(line):
                charge = [tenant_id, line["charge_id"]]
                owner.execute(_TRANSFER, [*charge, *row, *charge])
                made.append(str(row[0]))
        owner.execute(_COUNT, [tenant_id])
    return made


def _transfers(line: dict[str, Any]) -> list[list[Any]]:
    currency, partner, org_id = line["currency_code"], line["partner_id"], line["org_id"]
    receivable = (f"receivable:{org_id}:{currency}", "ASSET", org_id)
    revenue = (f"revenue:{line['sku']}:{currency}", "INCOME", "")
    legs = [("gross", 1001, receivable, revenue, line["amount_minor"])]
    if partner:
        commission = (f"commission:{currency}", "EXPENSE", "")
        payable = (f"payable:partner:{partner}:{currency}", "LIABILITY", partner)
        legs.append(("partner", 1002, commission, payable, line["partner_amount_minor"]))
    effective_at = line["end_at"] - timedelta(microseconds=1)
    return [
        [
            derived_uuid("charge", line["charge_id"], "1", str(line["line_no"]), leg),
            *(line["line_no"], leg, *debit, *credit, currency, amount, code, effective_at),
        ]
        for leg, code, debit, credit, amount in legs
        if amount
    ]
