"""What the statements of the ledger have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, NO_LIMITS, EntryView, Flags, Limits
from services.ledger.domain.transfers import Reference
from services.runtime.database import UnitOfWork

RowT = TypeVar("RowT")

# Rows of a statement: the driver writes all of them before anybody else has a turn.
_PART_ROWS = 500


def parts(rows: Sequence[RowT]) -> Iterator[Sequence[RowT]]:
    """Cut the rows of a statement into what one statement takes."""
    for start in range(0, len(rows), _PART_ROWS):
        yield rows[start : start + _PART_ROWS]


async def hot(
    work: UnitOfWork, statement: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run a statement of the posting path: thousands of rows without a row object each."""
    return (await work.execute(statement, parameters)).tuples()


def uuids(ids: Iterable[UUID]) -> str:
    """Write ids as Postgres reads an array of them: in one go, where the driver would adapt each by itself."""
    return "{" + ",".join([f"{each.int:032x}" for each in ids]) + "}"


def numbers(values: Iterable[int]) -> str:
    """Write integers as Postgres reads an array of them."""
    return "{" + ",".join(map(str, values)) + "}"


def names(values: Sequence[str]) -> str:
    """Write account ids or currency codes as Postgres reads an array of texts: nothing in them is special to it."""
    return '{"' + '","'.join(values) + '"}' if values else "{}"


def limits_of(floor_minor: int | None, ceiling_minor: int | None) -> Limits:
    """Read the limits of a row."""
    if floor_minor is None and ceiling_minor is None:
        return NO_LIMITS
    return Limits(floor_minor, ceiling_minor)


def flags_of(no_overdraft: bool, no_overpay: bool, closed: bool) -> Flags:
    """Read the flags of a row."""
    if not (no_overdraft or no_overpay or closed):
        return NO_ACCOUNT_FLAGS
    return Flags(no_overdraft, no_overpay, closed)


def reference_of(row: Any) -> Reference | None:
    """Read the reference of a row."""
    if row.reference_kind is None:
        return None
    return Reference(row.reference_kind, row.reference_id, row.reference_part)


def entry_of(row: Any) -> EntryView:
    """Read an entry with what its transfer says."""
    return EntryView(
        account_id=row.account_id,
        seq=row.seq,
        transfer_id=row.transfer_id,
        amount_minor=row.amount_minor,
        balance_after_minor=row.balance_after_minor,
        currency_code=row.currency_code,
        counter_account_id=row.counter_account_id,
        code=row.code,
        recorded_at=row.recorded_at,
        effective_at=row.effective_at,
        metadata=row.metadata,
        reference=reference_of(row),
    )
