"""Verifying the books: passes over all rows of a tenant, page by page, each page in a snapshot of its own.

What belongs together is committed together, and nothing of it is ever changed: so a page that is right in its snapshot
is right for good, and no transaction is open for long. Two checks compare sums of all accounts; each is one statement.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from services.ledger.app.recipes import Recipes
from services.ledger.domain.chain import BEFORE_ALL, Block
from services.ledger.domain.findings import Check, Finding, Progress, VerificationRunning
from services.ledger.domain.heads import LedgerHead
from services.ledger.domain.integrity_accounts import (
    Running,
    currency_faults,
    followed,
    pending_faults,
)
from services.ledger.domain.integrity_chain import block_faults, head_faults
from services.ledger.domain.integrity_postings import (
    Earlier,
    KeptPosting,
    Needs,
    compared,
    needs_of,
    stray_faults,
    unplanned,
)
from services.ledger.domain.integrity_reversals import reversals_faults
from services.ledger.domain.integrity_transfers import holds_faults, ids_faults, transfers_faults
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.store import chain
from services.ledger.store import integrity as store
from services.runtime.context import acting, current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.ids import new_uuid
from services.runtime.leases import Term
from services.runtime.turns import aside
from services.runtime.violations import ViolationReporter

CONTRACT = "ledger/integrity"
# Of one run; each is sent to the caller, and a monitor needs no thousand to be alarmed.
TOLD_MAX = 100
LEASE_MS = 30_000
ACCOUNTS_A_PAGE = 500
ENTRIES_A_PAGE = 5_000
TRANSFERS_A_PAGE = 1_000
IDS_A_PAGE = 5_000
HOLDS_A_PAGE = 500
REVERSALS_A_PAGE = 500
BLOCKS_A_PAGE = 100
HEADS_A_PAGE = 100
POSTINGS_A_PAGE = 50
DIFFERENCES_MAX = 1_000
# Of one page; a verification as a whole may last as long as it takes.
PAGE_SECONDS = 55.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is verified.

    Attributes:
        checks: only these.
        heads: heads that were kept elsewhere.
    """

    checks: frozenset[Check] = frozenset(Check)
    heads: tuple[LedgerHead, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What was found in some rows, and how many these were."""

    looked_at: int
    findings: Sequence[Finding]


class Reader:
    """Opens the snapshots of a verification, and knows the product's recipes."""

    def __init__(self, database: Database, recipes: Recipes) -> None:
        self._database = database
        self.recipes = recipes

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[UnitOfWork]:
        """Read in one snapshot; what the stream's own call has left of its time does not count."""
        deadline_at = time.monotonic() + PAGE_SECONDS
        with acting(replace(current(), deadline_at=deadline_at)):
            async with self._database.read() as work:
                yield work


Run = Callable[[Reader, Asked], AsyncGenerator[Page, None]]


@dataclass(frozen=True, slots=True)
class Pass:
    """Checks that are done together, on the same rows.

    Attributes:
        checks: the first of them names it.
        run: gives page by page what contradicts them, and opens no transaction while it waits to be asked on.
    """

    checks: tuple[Check, ...]
    run: Run


async def _currencies(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    async with reader.snapshot() as work:
        sums = await store.sum_currencies(work)
    yield Page(len(sums), [*currency_faults(sums)])


async def _pending(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    async with reader.snapshot() as work:
        accounts, differing = await store.differing_pending_sums(work, DIFFERENCES_MAX)
    yield Page(accounts, [*pending_faults(differing)])


async def _accounts(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    place = store.AccountsPlace(Running(), inclusive=True)
    while True:
        async with reader.snapshot() as work:
            page = await store.accounts_page(work, place, ACCOUNTS_A_PAGE, ENTRIES_A_PAGE)
        running, findings = await aside(
            len(page.entries),
            followed,
            place.running,
            page.entries,
            page.balances,
            all_read=page.all_read,
        )
        yield Page(len(page.balances) + len(page.entries), findings)
        if page.all_read and page.is_last:
            return
        if page.all_read:
            running = Running(page.balances[-1].account_id)
        place = store.AccountsPlace(running, inclusive=not page.all_read)


async def _transfers(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    after = BEFORE_ALL
    while True:
        async with reader.snapshot() as work:
            facts, reversed_ = await store.transfers_page(work, after, TRANSFERS_A_PAGE)
        yield Page(len(facts), await aside(len(facts), transfers_faults, facts, reversed_))
        if len(facts) < TRANSFERS_A_PAGE:
            return
        after = facts[-1].booked.place


async def _ids(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    after: UUID | None = None
    while True:
        async with reader.snapshot() as work:
            page = await store.ids_page(work, after, IDS_A_PAGE)
        yield Page(len(page), [*ids_faults(page)])
        if len(page) < IDS_A_PAGE:
            return
        after = page[-1].transfer_id


async def _holds(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    after: UUID | None = None
    while True:
        async with reader.snapshot() as work:
            page = await store.holds_page(work, after, HOLDS_A_PAGE)
        yield Page(len(page), [*holds_faults(page)])
        if len(page) < HOLDS_A_PAGE:
            return
        after = page[-1].hold.transfer_id


async def _reversals(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    after: tuple[UUID, UUID] | None = None
    while True:
        async with reader.snapshot() as work:
            page, taken = await store.reversals_page(work, after, REVERSALS_A_PAGE)
        yield Page(len(page), reversals_faults(page, taken))
        if len(page) < REVERSALS_A_PAGE:
            return
        after = page[-1].reversed_id, page[-1].transfer_id


async def _chain(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    before: Block | None = None
    while True:
        async with reader.snapshot() as work:
            after = 0 if before is None else before.block_no
            blocks = await chain.list_blocks(work, after, BLOCKS_A_PAGE)
        for block in blocks:
            async with reader.snapshot() as work:
                transfers = await chain.read_block_transfers(work, before, block)
            findings = await aside(
                len(transfers), block_faults, current().tenant_id, before, block, transfers
            )
            yield Page(1, findings)
            before = block
        if len(blocks) < BLOCKS_A_PAGE:
            return


async def _heads(reader: Reader, asked: Asked) -> AsyncGenerator[Page, None]:
    """The heads that come with the request, then those that were given out."""
    if asked.heads:
        yield await _compared(reader, asked.heads)
    after = 0
    while True:
        async with reader.snapshot() as work:
            heads = await chain.list_heads(work, after, HEADS_A_PAGE)
        if heads:
            yield await _compared(reader, heads)
        if len(heads) < HEADS_A_PAGE:
            return
        after = heads[-1].block_no


async def _compared(reader: Reader, heads: Collection[LedgerHead]) -> Page:
    async with reader.snapshot() as work:
        blocks = await chain.read_blocks(work, {head.block_no for head in heads})
        keys = await chain.public_keys(work)
    findings = [
        finding
        for head in heads
        for finding in head_faults(head, blocks.get(head.block_no), current().tenant_id, keys)
    ]
    return Page(len(heads), findings)


async def _postings(reader: Reader, _asked: Asked) -> AsyncGenerator[Page, None]:
    """The postings by what their recipes make of them, then the transfers that say they are of one."""
    after: UUID | None = None
    while True:
        async with reader.snapshot() as work:
            page = await store.postings_page(work, after, POSTINGS_A_PAGE)
            recipes = await reader.recipes.find(work, {(p.recipe, p.version) for p in page})
            needed = {
                posting.posting_id: await aside(
                    posting.size, _needs, posting, recipes.get((posting.recipe, posting.version))
                )
                for posting in page
            }
            earlier = await _earlier(work, needed.values())
        findings: list[Finding] = []
        for posting in page:
            needs = needed[posting.posting_id]
            if isinstance(needs, Finding):
                findings.append(needs)
                continue
            recipe = recipes[posting.recipe, posting.version]
            findings += await aside(
                posting.size, compared, posting, recipe, needs, earlier, current().tenant_id
            )
        yield Page(len(page), findings)
        if len(page) < POSTINGS_A_PAGE:
            break
        after = page[-1].posting_id
    place = BEFORE_ALL
    while True:
        async with reader.snapshot() as work:
            named, looked_at, place = await store.named_page(work, place, IDS_A_PAGE)
        yield Page(looked_at, [*stray_faults(named)])
        if looked_at < IDS_A_PAGE:
            return


def _needs(posting: KeptPosting, recipe: Recipe | None) -> Needs | Finding:
    if recipe is None:
        return unplanned(posting, "there is no such recipe")
    try:
        return needs_of(posting, recipe)
    except DomainError as error:
        return unplanned(posting, str(error))


async def _earlier(work: UnitOfWork, needed: Iterable[Needs | Finding]) -> Earlier:
    needs = [each for each in needed if isinstance(each, Needs)]
    posting_ids = {earlier.posting_id(work.tenant_id) for each in needs for earlier in each.earlier}
    transfer_ids = {transfer_id for each in needs for transfer_id in each.standing}
    return await store.read_earlier(work, posting_ids, transfer_ids)


PASSES: tuple[Pass, ...] = (
    Pass((Check.CURRENCY_SUMS,), _currencies),
    Pass((Check.PENDING_SUMS,), _pending),
    Pass((Check.BALANCES, Check.ENTRIES), _accounts),
    Pass((Check.TRANSFERS, Check.TRANSFER_IDS, Check.HOLDS, Check.REVERSALS), _transfers),
    Pass((Check.TRANSFER_IDS,), _ids),
    Pass((Check.HOLDS,), _holds),
    Pass((Check.REVERSALS,), _reversals),
    Pass((Check.POSTINGS,), _postings),
    Pass((Check.CHAIN,), _chain),
    Pass((Check.HEADS,), _heads),
)
"""All passes, in their order; another check is another function here."""


class Integrity:
    """Verifies the books of the tenant that the running call acts for, one call at a time."""

    def __init__(self, database: Database, recipes: Recipes, violations: ViolationReporter) -> None:
        self._database = database
        self._recipes = recipes
        self._violations = violations

    async def verify(self, asked: Asked) -> AsyncGenerator[Finding | Progress, None]:
        """Give what is not as it must be, and how far it is; reads on only when it is asked for more.

        Raises:
            VerificationRunning: another verification of the tenant runs.
        """
        turn = _Turn(self._database)
        await turn.hold()
        reader, told = Reader(self._database, self._recipes), 0
        try:
            yield Progress(Check.CURRENCY_SUMS, 0)
            for each in PASSES:
                wanted = asked.checks.intersection(each.checks)
                if not wanted:
                    continue
                looked_at = 0
                async with aclosing(each.run(reader, asked)) as pages:
                    async for page in pages:
                        await turn.hold()
                        looked_at += page.looked_at
                        for finding in page.findings:
                            if finding.check in wanted:
                                told = self._tell(finding, told)
                                yield finding
                        yield Progress(each.checks[0], looked_at)
                yield Progress(each.checks[0], looked_at, done=True)
        finally:
            await turn.end()

    def _tell(self, finding: Finding, told: int) -> int:
        if told < TOLD_MAX:
            message = f"{finding.check.value}: {finding}"
            self._violations.tell(CONTRACT, finding.severity, message, finding.subject)
        return told + 1


class _Turn:
    """The right to verify, held on to while a verification goes on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner = new_uuid()
        self._term: Term | None = None

    async def hold(self) -> None:
        """Take it, or keep it. Raises VerificationRunning."""
        if self._term is not None and not self._term.is_to_renew():
            return
        term = Term(LEASE_MS)
        with acting(replace(current(), deadline_at=None)):
            async with self._database.unit_of_work("ledger.lease_verification") as work:
                is_ours = await store.lease(work, self._owner, LEASE_MS)
        if not is_ours:
            raise VerificationRunning(
                "the books are being verified by another call: wait for its end, and call again",
                retry_after_ms=LEASE_MS,
            )
        self._term = term

    async def end(self) -> None:
        """Give it back; where that fails it runs out by itself."""
        # What failed is told by who failed: the lease ends by itself.
        with contextlib.suppress(DomainError), acting(replace(current(), deadline_at=None)):
            async with self._database.unit_of_work("ledger.end_verification") as work:
                await store.end_lease(work, self._owner)
