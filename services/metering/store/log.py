"""The log of receipts: its leaves, nodes and heads, and the events that are hashed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from services.metering.domain.log import LoggedEvent, LogHead, LogLeaf, StoredReceipt, uuid_hex
from services.metering.domain.merkle import HASH_BYTES, Growing, Node
from services.metering.domain.receipts import ReceiptKind
from services.metering.store.rows import content_of, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/log.sql")


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How many leaves the log has, and how many receipts have ordinals, in one snapshot."""

    tree_size: int
    last_ordinal: int


async def lock_log(work: UnitOfWork) -> None:
    """Let nobody else close the tenant's log until the commit."""
    await rows_of(work, _SQL, "lock_log")


async def position(work: UnitOfWork) -> LogPosition:
    """Return where the log stands."""
    (row,) = await rows_of(work, _SQL, "log_position")
    return LogPosition(row.tree_size, row.last_ordinal)


async def unlogged_tenants(work: UnitOfWork, after: str, limit: int) -> list[str]:
    """Return the tenants behind one that have receipts which are no leaves; across tenants."""
    found = await work.execute(_SQL["unlogged"], {"after": after, "tenants": limit})
    return [row.tenant_id for row in found]


async def receipts_behind(
    work: UnitOfWork, after: int, up_to: int, limit: int
) -> list[StoredReceipt]:
    """Return the first receipts behind an ordinal and up to another, in their order."""
    rows = await rows_of(work, _SQL, "receipts_behind", after=after, up_to=up_to, limit=limit)
    return [_receipt(row) for row in rows]


async def read_receipt(work: UnitOfWork, receipt_id: str) -> StoredReceipt | None:
    """Return a receipt by its id without the prefix; None when there is none."""
    rows = await rows_of(work, _SQL, "read_receipt", receipt_id=receipt_id)
    return _receipt(rows[0]) if rows else None


def _receipt(row: Any) -> StoredReceipt:
    return StoredReceipt(
        receipt_id=row.receipt_id,
        ordinal=row.ordinal,
        kind=ReceiptKind(row.kind),
        accepted=row.accepted,
        duplicate=row.duplicate,
        conflict=row.conflict,
        rejected=row.rejected,
        recorded_at=row.recorded_at.astimezone(UTC),
    )


async def event_hashes(
    work: UnitOfWork, receipt_ids: Collection[str]
) -> dict[str, Sequence[bytes]]:
    """Return the hashes of the leaves of receipts' events, by receipt; of one without events there is nothing."""
    rows = await rows_of(work, _SQL, "event_hashes", receipt_ids=list(receipt_ids))
    return {
        row.receipt_id: [
            bytes(row.hashes[at : at + HASH_BYTES]) for at in range(0, len(row.hashes), HASH_BYTES)
        ]
        for row in rows
    }


async def read_events(
    work: UnitOfWork, receipt_ids: Collection[str], after: str | None, limit: int
) -> list[LoggedEvent]:
    """Return the first events of receipts behind the key of one, by receipt and key."""
    rows = await rows_of(
        work, _SQL, "read_events", receipt_ids=list(receipt_ids), after=after, limit=limit
    )
    return [
        LoggedEvent(
            receipt_id=row.receipt_id,
            event_key=uuid_hex(row.event_key),
            fingerprint=uuid_hex(row.fingerprint),
            version=row.version,
            cancelled=row.cancelled,
            reason=row.reason,
            content=content_of(row),
        )
        for row in rows
    ]


async def differing_originals(
    work: UnitOfWork, receipt_ids: Collection[str], limit: int
) -> dict[str, list[str]]:
    """Return the events of receipts that count by a copy which is not what was sent: request_ids, by receipt."""
    found: dict[str, list[str]] = defaultdict(list)
    rows = await rows_of(
        work, _SQL, "differing_originals", receipt_ids=list(receipt_ids), limit=limit
    )
    for row in rows:
        found[row.receipt_id].append(row.request_id)
    return found


async def insert_closed(work: UnitOfWork, leaves: Sequence[LogLeaf], tree: Growing) -> None:
    """Store leaves, the nodes that they complete, and the head behind them."""
    nodes = [node for node in tree.added if node.level]
    await rows_of(
        work,
        _SQL,
        "insert_leaves",
        now=work.now,
        ordinals=[leaf.ordinal for leaf in leaves],
        events_roots=[leaf.events_root for leaf in leaves],
        hashes=[leaf.hash for leaf in leaves],
    )
    if nodes:
        await rows_of(
            work,
            _SQL,
            "insert_nodes",
            levels=[node.level for node in nodes],
            indexes=[node.place for node in nodes],
            hashes=[tree.hashes[node] for node in nodes],
        )
    await rows_of(work, _SQL, "insert_head", now=work.now, tree_size=tree.size, root_hash=tree.root)


async def read_leaves(work: UnitOfWork, ordinals: Iterable[int]) -> dict[int, LogLeaf]:
    """Return leaves by their ordinals."""
    rows = await rows_of(work, _SQL, "read_leaves", ordinals=list(ordinals))
    return {
        row.ordinal: LogLeaf(row.ordinal, bytes(row.events_root), bytes(row.hash)) for row in rows
    }


async def read_nodes(work: UnitOfWork, nodes: Collection[Node]) -> dict[Node, bytes]:
    """Return the hashes of complete nodes, leaves among them; what is not stored is not in it."""
    leaves = await read_leaves(work, [node.place + 1 for node in nodes if not node.level])
    found = {Node(0, ordinal - 1): leaf.hash for ordinal, leaf in leaves.items()}
    above = [node for node in nodes if node.level]
    if above:
        rows = await rows_of(
            work,
            _SQL,
            "read_nodes",
            levels=[node.level for node in above],
            indexes=[node.place for node in above],
        )
        found |= {Node(row.level, row.node_index): bytes(row.hash) for row in rows}
    return found


async def closed_at(work: UnitOfWork, tree_size: int) -> Any:
    """Return when the last leaf of a tree was added."""
    rows = await rows_of(work, _SQL, "read_leaves", ordinals=[tree_size])
    return rows[0].closed_at.astimezone(UTC) if rows else None


async def list_heads(work: UnitOfWork, before: int, limit: int) -> list[LogHead]:
    """Return the newest heads that are smaller than a size."""
    rows = await rows_of(work, _SQL, "list_heads", before=before, limit=limit)
    return [_head(row) for row in rows]


async def heads_between(work: UnitOfWork, after: int, up_to: int) -> list[LogHead]:
    """Return the heads behind one size and up to another."""
    return [
        _head(row) for row in await rows_of(work, _SQL, "heads_between", after=after, up_to=up_to)
    ]


def _head(row: Any) -> LogHead:
    return LogHead(row.tree_size, bytes(row.root_hash), row.closed_at.astimezone(UTC))
