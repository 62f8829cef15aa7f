"""The log of receipts: closed behind ingest, shown with its proofs, and computed again from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.metering.domain.log import (
    EVENTS_A_CLOSING_MAX,
    FINDINGS_MAX,
    RECEIPTS_A_CLOSING_MAX,
    Consistency,
    LogFinding,
    LoggedEvent,
    LogHead,
    LogLeaf,
    ReceiptBehindHead,
    ReceiptProof,
    StoredReceipt,
    UsageLogDamaged,
    few_enough,
    receipt_faults,
    sealed,
)
from services.metering.domain.merkle import (
    EMPTY_ROOT,
    Growing,
    Node,
    Span,
    children,
    completed_by,
    consistency_spans,
    hash_of,
    inclusion_spans,
    nodes_of,
    peaks,
    root,
    wrong_nodes,
)
from services.metering.domain.ordinals import UsageOrdinalAhead
from services.metering.domain.receipts import RECEIPT_PREFIX
from services.metering.store import log as store
from services.metering.store.rows import bare
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.telemetry import log as telling
from services.runtime.turns import aside
from services.runtime.violations import ViolationReporter

CONTRACT = "metering/log-integrity"
# Closings that a reading waits for; a log that is further behind is caught up by the loop.
CLOSINGS_WAITED_MAX = 4
EVENTS_VERIFIED_MAX = 20_000
BEYOND_ALL = 2**63 - 1


async def close(work: UnitOfWork) -> int:
    """Make the next receipts that have ordinals leaves of the tenant's log; returns how many.

    What is closed follows from the ordinals alone. Two at once: the second waits, and goes on behind the first. Dies it
    before the commit, nothing was closed.

    Raises:
        UsageLogDamaged: what is stored of a receipt's events is not what it accepted.
    """
    await store.lock_log(work)
    # A statement of its own behind the lock: it sees what the one before has closed.
    at = await store.position(work)
    receipts = few_enough(
        await store.receipts_behind(work, at.tree_size, at.last_ordinal, RECEIPTS_A_CLOSING_MAX),
        EVENTS_A_CLOSING_MAX,
    )
    if not receipts:
        return 0
    assert receipts[0].ordinal == at.tree_size + 1, "ordinals have no gap"
    with_events = [receipt.receipt_id for receipt in receipts if receipt.accepted]
    hashes = await store.event_hashes(work, with_events) if with_events else {}
    edge = await store.read_nodes(work, peaks(Span(0, at.tree_size)))
    tree = Growing(at.tree_size, edge)
    events = sum(receipt.accepted for receipt in receipts)
    leaves = await aside(events + len(receipts), _grown, work.tenant_id, tree, receipts, hashes)
    await store.insert_closed(work, leaves, tree)
    return len(receipts)


def _grown(
    tenant_id: str,
    tree: Growing,
    receipts: Sequence[StoredReceipt],
    hashes: dict[str, Sequence[bytes]],
) -> list[LogLeaf]:
    leaves = [sealed(tenant_id, each, hashes.get(each.receipt_id, ())) for each in receipts]
    for leaf in leaves:
        tree.add(leaf.hash)
    return leaves


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the log that was computed again.

    Attributes:
        last_ordinal: of its last receipt; None where the log ends with it.
    """

    findings: Sequence[LogFinding]
    receipts: int
    events: int
    last_ordinal: int | None


class ReceiptLog:
    """The log of the tenant that the running call acts for."""

    def __init__(self, database: Database, violations: ViolationReporter) -> None:
        self._database = database
        self._violations = violations

    async def root_at(self, ordinal: int) -> bytes | None:
        """Return the root of the log at an ordinal; None where it is too far behind to be closed so far now."""
        for left in reversed(range(CLOSINGS_WAITED_MAX + 1)):
            async with self._database.read() as work:
                if (await store.position(work)).tree_size >= ordinal:
                    return (await _head(work, ordinal)).root_hash
            if left:
                try:
                    async with self._database.unit_of_work("metering.close_log") as work:
                        await close(work)
                except UsageLogDamaged as error:
                    # What reads usage goes on; the loop tells of it until it is mended.
                    telling.error("usage_log_damaged", exc_info=error)
                    return None
        return None

    async def receipt(self, receipt_id: str, tree_size: int) -> ReceiptProof:
        """Return a receipt with its proof against the head of a size, 0 for the newest; without while it is no leaf.

        Raises:
            NotFound: there is no such receipt.
            UsageOrdinalAhead: the log has not so many leaves yet.
            ReceiptBehindHead: that head was closed before the receipt came.
        """
        async with self._database.read() as work:
            found = await self._found(work, receipt_id)
            size = (await store.position(work)).tree_size
            if found.ordinal is None or found.ordinal > size:
                return ReceiptProof(found, None, await _head(work, size))
            size = _reached(size, tree_size)
            if found.ordinal > size:
                raise ReceiptBehindHead(
                    f"receipt {receipt_id} has ordinal {found.ordinal}, behind the head of size {size}: ask for one of"
                    " at least that size",
                    receipt_id=receipt_id,
                    tree_size=size,
                    ordinal=found.ordinal,
                )
            leaf = (await store.read_leaves(work, [found.ordinal]))[found.ordinal]
            spans = inclusion_spans(found.ordinal - 1, size)
            path = await _hashes(work, spans)
            return ReceiptProof(found, leaf, await _head(work, size), path)

    async def events(self, receipt_id: str, after: str | None, limit: int) -> list[LoggedEvent]:
        """Return the first events of a receipt behind the key of one.

        Raises:
            NotFound: there is no such receipt.
        """
        async with self._database.read() as work:
            found = await self._found(work, receipt_id)
            return await store.read_events(work, [found.receipt_id], after, limit)

    async def _found(self, work: UnitOfWork, receipt_id: str) -> StoredReceipt:
        found = await store.read_receipt(work, bare(receipt_id))
        if found is None:
            raise NotFound("receipt", receipt_id)
        return found

    async def head(self, tree_size: int) -> LogHead:
        """Return the head of a size, 0 for the newest.

        Raises:
            UsageOrdinalAhead: the log has not so many leaves yet.
        """
        async with self._database.read() as work:
            size = _reached((await store.position(work)).tree_size, tree_size)
            return await _head(work, size)

    async def heads(self, before: int, limit: int) -> list[LogHead]:
        """Return the newest heads that are smaller than a size."""
        async with self._database.read() as work:
            return await store.list_heads(work, before, limit)

    async def consistency(self, first: int, second: int) -> Consistency:
        """Prove that the log of a size, 0 for the newest, begins with that of a smaller one.

        Raises:
            UsageOrdinalAhead: the log has not so many leaves yet.
            InvalidField: the first is larger than the second.
        """
        async with self._database.read() as work:
            size = (await store.position(work)).tree_size
            second = _reached(size, second)
            first = _reached(size, first)
            if first > second:
                raise InvalidField.one(
                    "first_tree_size", f"must not be larger than second_tree_size, {second}"
                )
            path = await _hashes(work, consistency_spans(first, second))
            return Consistency(await _head(work, first), await _head(work, second), path)

    async def verify(self, after: int, limit: int) -> Stretch:
        """Compute the log behind an ordinal again from what is stored, and tell what is not as it was logged.

        The leaves of a stretch are compared with their receipts and events, the nodes that they complete with the two
        below each, and the heads that were closed in it with their nodes: what all stretches find sound is the log.
        """
        # A place of a page may be anybody's, and ordinals begin with 1.
        after = max(after, 0)
        async with self._database.read() as work:
            size = (await store.position(work)).tree_size
            receipts = few_enough(
                await store.receipts_behind(work, after, size, limit), EVENTS_VERIFIED_MAX
            )
            if not receipts:
                findings = [_missing(after + 1)] if after < size else []
                findings += _cut_off(size, await store.list_heads(work, BEYOND_ALL, 1))
                return self._told(Stretch(findings, 0, 0, None))
            last = receipts[-1].ordinal or 0
            leaves = await store.read_leaves(work, range(after + 1, last + 1))
            events = await store.read_events(
                work, [each.receipt_id for each in receipts], None, EVENTS_VERIFIED_MAX * 2
            )
            copies = await store.differing_originals(
                work, [each.receipt_id for each in receipts], FINDINGS_MAX
            )
            findings = await aside(
                len(events), _faults, work.tenant_id, after, last, receipts, leaves, events
            )
            findings += _copy_faults(receipts, copies)
            findings += await self._tree_faults(work, after, last)
            if last == size:
                findings += _cut_off(size, await store.list_heads(work, BEYOND_ALL, 1))
        more = last if last < size else None
        return self._told(Stretch(findings[:FINDINGS_MAX], len(receipts), len(events), more))

    async def _tree_faults(self, work: UnitOfWork, after: int, last: int) -> list[LogFinding]:
        completed = completed_by(after, last)
        heads = await store.heads_between(work, after, last)
        needed = {*completed, *(below for node in completed for below in children(node))}
        for head in heads:
            needed.update(peaks(Span(0, head.tree_size)))
        hashes = await store.read_nodes(work, needed)
        findings = [
            LogFinding(
                min(node.leaves_end, last),
                f"node {node.place} of level {node.level} does not follow from the two below",
                "a hash of both",
                _hex(hashes.get(node)),
            )
            for node in wrong_nodes(completed, hashes.get)
        ]
        for head in heads:
            whole = all(node in hashes for node in peaks(Span(0, head.tree_size)))
            computed = root(head.tree_size, hashes) if whole else None
            if computed != head.root_hash:
                message = "the head does not follow from the tree"
                findings.append(
                    LogFinding(head.tree_size, message, head.root_hash.hex(), _hex(computed))
                )
        return findings

    def _told(self, stretch: Stretch) -> Stretch:
        for each in stretch.findings:
            subject = each.receipt_id or f"head {each.ordinal}"
            told = f"{each.message}: expected {each.expected}, found {each.found}"
            self._violations.tell(CONTRACT, "CRITICAL", told, subject)
        return stretch


def _faults(
    tenant_id: str,
    after: int,
    last: int,
    receipts: Sequence[StoredReceipt],
    leaves: dict[int, LogLeaf],
    events: Sequence[LoggedEvent],
) -> list[LogFinding]:
    by_ordinal = {each.ordinal: each for each in receipts}
    of_receipt: dict[str, list[LoggedEvent]] = {each.receipt_id: [] for each in receipts}
    for event in events:
        of_receipt[event.receipt_id].append(event)
    findings = []
    for ordinal in range(after + 1, last + 1):
        receipt, leaf = by_ordinal.get(ordinal), leaves.get(ordinal)
        if receipt is None or leaf is None:
            findings.append(_missing(ordinal))
        else:
            findings += receipt_faults(tenant_id, receipt, leaf, of_receipt[receipt.receipt_id])
    return findings


def _copy_faults(
    receipts: Sequence[StoredReceipt], copies: dict[str, list[str]]
) -> list[LogFinding]:
    return [
        LogFinding(
            receipt.ordinal or 0,
            "a corrected event counts by a copy that is not what was sent",
            f"the content of {request_id}",
            "another one",
            f"{RECEIPT_PREFIX}{receipt.receipt_id}",
        )
        for receipt in receipts
        for request_id in copies.get(receipt.receipt_id, ())
    ]


def _cut_off(size: int, newest: Sequence[LogHead]) -> list[LogFinding]:
    return [
        LogFinding(
            head.tree_size, "the log ends before its newest head", str(head.tree_size), str(size)
        )
        for head in newest
        if head.tree_size > size
    ]


def _missing(ordinal: int) -> LogFinding:
    return LogFinding(
        ordinal, "a receipt that was logged, or its leaf, is gone", "both", "not both"
    )


def _hex(hashed: bytes | None) -> str:
    return "nothing" if hashed is None else hashed.hex()


def _reached(size: int, asked: int) -> int:
    if asked > size:
        raise UsageOrdinalAhead(
            f"the log of receipts has {size} leaves, and {asked} are asked for: it is closed a moment behind ingest;"
            " ask again shortly, for a size that usage_ordinal of QueryUsage or a charge told",
            at_ordinal=asked,
            last_ordinal=size,
        )
    return asked or size


async def _head(work: UnitOfWork, size: int) -> LogHead:
    if not size:
        return LogHead(0, EMPTY_ROOT, None)
    hashes = await store.read_nodes(work, peaks(Span(0, size)))
    return LogHead(size, root(size, hashes), await store.closed_at(work, size))


async def _hashes(work: UnitOfWork, spans: Sequence[Span]) -> list[bytes]:
    hashes: dict[Node, bytes] = await store.read_nodes(work, nodes_of(spans))
    return [hash_of(span, hashes) for span in spans]
