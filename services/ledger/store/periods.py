"""Accounting periods: who shares them, who holds them alone, and how far they are closed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.ledger.domain.periods import AccountingPeriod
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows

_SQL = sql.load("services.ledger", "queries/periods.sql")

Query = tuple[str, Mapping[str, Any]]


def sharing(work: UnitOfWork) -> tuple[Query, Query]:
    """Return the statements that share the periods until the transaction ends and read which are closed."""
    return (
        (_SQL["share_periods"], _lock(work)),
        (_SQL["read_closed"], {"tenant_id": work.tenant_id}),
    )


def closed_through(answer: Rows) -> dict[str, datetime]:
    """Read how far the books are closed, by currency, from the answer of the second of them."""
    return dict(answer.tuples())


async def share(work: UnitOfWork) -> dict[str, datetime]:
    """Keep the periods as they are until the transaction ends; returns how far they are closed, by currency."""
    return closed_through((await work.execute_all(*sharing(work)))[-1])


async def own(work: UnitOfWork, currency_code: str) -> AccountingPeriod | None:
    """Wait for all batches under way and keep others out until the transaction ends; read one period then."""
    work.later(_SQL["own_periods"], _lock(work))
    keys = {"tenant_id": work.tenant_id, "currency_code": currency_code}
    row = (await work.execute(_SQL["read_period"], keys)).one_or_none()
    return None if row is None else _period(row)


async def put(work: UnitOfWork, period: AccountingPeriod) -> None:
    """Write how far the books of a currency are closed."""
    parameters = {
        "tenant_id": work.tenant_id,
        "currency_code": period.currency_code,
        "closed_through": period.closed_through,
        "reason": period.reason,
        "now": period.updated_at,
    }
    await work.execute(_SQL["put_period"], parameters)


async def list_periods(work: UnitOfWork, after: str, limit: int) -> list[AccountingPeriod]:
    """List the periods behind a currency, by currency."""
    parameters = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return [_period(row) for row in await work.execute(_SQL["list_periods"], parameters)]


def _lock(work: UnitOfWork) -> dict[str, str]:
    return {"lock": f"ledger.period {work.tenant_id}"}


def _period(row: Any) -> AccountingPeriod:
    return AccountingPeriod(row.currency_code, row.closed_through, row.reason, row.updated_at)
