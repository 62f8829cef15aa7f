"""How statements of metering run, and what their rows share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any, TypeVar

from services.metering.domain.events import EventContent
from services.metering.domain.receipts import RECEIPT_PREFIX
from services.runtime.database import UnitOfWork
from services.runtime.postgres.session import Rows
from services.runtime.postgres.sql import Statements

ItemT = TypeVar("ItemT")
# Rows that are made before others have their turn.
PART_ROWS = 500
_PART_BYTES = 256 * 1024


def light_parts(items: Iterable[ItemT], weigh: Callable[[ItemT], int]) -> Iterator[list[ItemT]]:
    """Cut by rows and by bytes: how long the driver takes to write a part follows from both."""
    part: list[ItemT] = []
    weight = 0
    for item in items:
        bytes_ = weigh(item)
        if part and (len(part) >= PART_ROWS or weight + bytes_ > _PART_BYTES):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += bytes_
    if part:
        yield part


def bare(receipt_id: str) -> str:
    """Return the id of a receipt as it is stored."""
    return receipt_id.removeprefix(RECEIPT_PREFIX)


def content_of(row: Any, prefix: str = "") -> EventContent:
    """Read the content of an event; its columns may have a prefix, the request_id has none."""
    return EventContent(
        request_id=row.request_id,
        org_id=getattr(row, f"{prefix}org_id"),
        project_id=getattr(row, f"{prefix}project_id"),
        sku=getattr(row, f"{prefix}sku"),
        quantity=getattr(row, f"{prefix}quantity"),
        event_time=getattr(row, f"{prefix}event_time").astimezone(UTC),
        source=getattr(row, f"{prefix}source"),
        metadata=getattr(row, f"{prefix}metadata") or {},
    )


async def rows_of(
    work: UnitOfWork, statements: Statements, name: str, **parameters: object
) -> list[Any]:
    """Run a named statement for the tenant.

    Never prepared: a plan kept from when the tables were small would read all of them once they are large,
    and a batch costs a hundred times what planning does.
    """
    return (await rows_of_all(work, (statements, name, parameters)))[0]


async def rows_of_all(
    work: UnitOfWork, *queries: tuple[Statements, str, Mapping[str, object]]
) -> list[list[Any]]:
    """Run named statements for the tenant in one go, as `rows_of` does one; returns the rows of each."""
    bound = [
        (statements[name], {"tenant_id": work.tenant_id, **parameters})
        for statements, name, parameters in queries
    ]
    return [await _all_of(answer) for answer in await work.execute_all(*bound, prepare=False)]


async def _all_of(answer: Rows) -> list[Any]:
    rows = answer.part(0, PART_ROWS)
    while len(rows) < len(answer):
        # They are here already: reading them waits for nothing, so others get their turn by hand.
        await asyncio.sleep(0)
        rows += answer.part(len(rows), len(rows) + PART_ROWS)
    return rows
