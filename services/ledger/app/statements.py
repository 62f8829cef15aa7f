"""Statements of accounts."""

from __future__ import annotations

from dataclasses import replace

from services.ledger.domain.reads import Looked
from services.ledger.domain.statements import (
    Line,
    LinePlace,
    Statement,
    StatementHead,
    StatementWanted,
    Sums,
    last_seq_of,
    lines,
    start_of,
)
from services.ledger.store import statements as store
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound

_NOTHING = Sums(0, 0, 0, 0, 0)


async def head_of(work: UnitOfWork, account_id: str) -> StatementHead:
    """Return what is fixed about an account, and the number of its last entry. Raises NotFound."""
    head = await store.read_head(work, account_id)
    if head is None:
        raise NotFound("account", account_id)
    return head


async def make_statement(work: UnitOfWork, wanted: StatementWanted) -> Statement:
    """Make a statement, as of now or of the point of the books that is asked for.

    Raises:
        NotFound: there is no such account.
        InvalidField: the account has not so many entries.
    """
    head = await head_of(work, wanted.account_id)
    recorded_at = work.now if wanted.recorded_at is None else wanted.recorded_at
    last_seq = last_seq_of(wanted, head)
    known = (recorded_at, last_seq)
    start_at = wanted.span.start_at
    opening = await store.net_before(work, wanted.account_id, wanted.by, start_at, known)
    empty = Statement(head, wanted.span, wanted.by, recorded_at, last_seq, opening, _NOTHING)
    return replace(empty, sums=await store.sums(work, empty))


async def list_lines(
    work: UnitOfWork, found: Statement, after: LinePlace | None, size: int
) -> Looked[Line, LinePlace]:
    """List lines of a statement behind a place; None is before the first."""
    after = after or start_of(found)
    entries = await store.list_lines(work, found, after, size + 1)
    shown = list(lines(entries[:size], after.balance_minor))
    if len(entries) <= size:
        return Looked(shown, None)
    last = shown[-1]
    return Looked(shown, last.place)
