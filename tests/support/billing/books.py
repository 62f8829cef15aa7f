"""Compares three books of the same money: what processors did, what payments say, what the ledger holds.

Nobody's word counts for more than another's: whatever one of them has and another lacks is a difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that one attempt took (CHARGE) or gave back (REFUND), in minor units."""

    attempt_id: str
    operation: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Books:
    """What each side holds to have happened.

    Attributes:
        in_doubt: attempts whose outcome the payments do not know yet.
    """

    processors: Collection[Movement]
    payments: Collection[Movement]
    ledger: Collection[Movement]
    in_doubt: frozenset[str] = frozenset()


def differences(books: Books) -> list[str]:
    """Name every attempt that the three do not agree on, once everything published was handled."""
    sides = {
        "processor": _by_attempt(books.processors),
        "payment": _by_attempt(books.payments),
        "ledger": _by_attempt(books.ledger),
    }
    found = []
    for attempt_id in sorted({name for side in sides.values() for name in side}):
        held = {name: side[attempt_id] for name, side in sides.items() if attempt_id in side}
        if attempt_id in books.in_doubt and set(held) <= {"processor"}:
            continue
        missing = [name for name in sides if name not in held]
        twice = [name for name, movements in held.items() if len(movements) > 1]
        if missing:
            found.append(f"{attempt_id}: {' and '.join(held)} without {' and '.join(missing)}")
        elif twice:
            found.append(f"{attempt_id}: more than once in {' and '.join(twice)}")
        elif len({movements[0] for movements in held.values()}) > 1:
            found.append(f"{attempt_id}: {held}")
    return found


def _by_attempt(movements: Iterable[Movement]) -> dict[str, list[Movement]]:
    found: defaultdict[str, list[Movement]] = defaultdict(list)
    for movement in movements:
        found[movement.attempt_id].append(movement)
    return dict(found)


_PROCESSORS = """
SELECT merchant_ref, CASE operation WHEN 'CAPTURE' THEN 'CHARGE' ELSE operation END, currency, amount_minor
  FROM orchestration.sandbox_order WHERE tenant_id = %(t)s AND done AND operation NOT IN ('AUTHORIZE', 'VOID')
"""
_PAYMENTS = """
SELECT a.attempt_id, CASE a.operation WHEN 'CAPTURE' THEN 'CHARGE' ELSE a.operation END, p.currency, a.amount_minor
  FROM orchestration.attempt a JOIN orchestration.payment p USING (tenant_id, payment_id)
 WHERE a.tenant_id = %(t)s AND a.status = 'SUCCEEDED' AND a.operation NOT IN ('AUTHORIZE', 'VOID')
"""
# A charge goes from what a processor owes to what a payer owes; a refund the other way.
_LEDGER = """
SELECT t.metadata ->> 'attempt_id',
       CASE WHEN t.code = 2001 AND NOT starts_with(t.debit_account_id, 'receivable:') THEN 'CHARGE'
            WHEN t.code = 2002 AND NOT starts_with(t.debit_account_id, 'clearing:') THEN 'REFUND'
            ELSE 'THE WRONG WAY' END,
       t.currency_code, t.amount_minor
  FROM ledger.transfer t WHERE t.tenant_id = %(t)s AND t.code IN (2001, 2002)
"""
_IN_DOUBT = """
SELECT attempt_id FROM orchestration.attempt
 WHERE tenant_id = %(t)s AND status IN ('CREATED', 'SENT', 'UNKNOWN', 'PENDING')
"""


def read(connection: psycopg.Connection[Any], tenant: str) -> Books:
    """Read the three books of a tenant, as the owner or as the services' role with that tenant set."""

    def movements(statement: str) -> list[Movement]:
        return [Movement(*row) for row in connection.execute(statement.encode(), {"t": tenant})]

    in_doubt = connection.execute(_IN_DOUBT.encode(), {"t": tenant})
    return Books(
        movements(_PROCESSORS),
        movements(_PAYMENTS),
        movements(_LEDGER),
        frozenset(row[0] for row in in_doubt),
    )
