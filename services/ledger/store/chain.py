"""The chain of blocks, signed heads and their keys, and transfers in the order of the chain."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.ledger.domain.chain import (
    BEFORE_ALL,
    BLOCK_TRANSFERS_MAX,
    Block,
    BookedEntry,
    BookedTransfer,
    Line,
    Place,
)
from services.ledger.domain.heads import LedgerHead, SigningKey
from services.ledger.store.posting import transfer_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.secrets import SecretBox
from services.runtime.turns import in_slices

_SQL = sql.load("services.ledger", "queries/chain.sql")
_BY_INDEX = sql.load("services.ledger", "queries/entries.sql")["by_index"]
# Lines that are put together before others have their turns.
_LINES = 250
# Others wait for a closing transaction as it waits for them, so it does not wait for long: the next round tries again.
_WAITS_SECONDS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)


async def settled_batch_no(work: UnitOfWork) -> int | None:
    """Return a number up to which no batch can still be committed; None while an older transaction is open.

    It is the first thing that its transaction does. What is read behind it sees all batches up to that number.
    """
    newest, _ = await work.execute_all((_SQL["newest_batch_no"], {}), (_SQL["take_number"], {}))
    for seconds in _WAITS_SECONDS:
        await asyncio.sleep(seconds)
        if (await work.execute(_SQL["is_oldest"])).scalar_one():
            return int(newest.scalar_one())
    return None


async def lock_chain(work: UnitOfWork) -> None:
    """Keep others from closing blocks of the tenant until the transaction ends."""
    await work.execute(_SQL["lock_chain"], {"tenant_id": work.tenant_id})


async def unchained_tenants(work: UnitOfWork, after: str, limit: int) -> list[tuple[str, bool]]:
    """Return the tenants behind one, and whether each has transfers outside of blocks."""
    found = await work.execute(_SQL["unchained"], {"after": after, "tenants": limit})
    return [(row.tenant_id, row.is_unchained) for row in found]


async def read_booked(
    work: UnitOfWork, after: Place, last: Place, limit: int
) -> list[BookedTransfer]:
    """Read transfers with their entries behind a place and up to one, in the order of the chain."""
    parameters = {
        "tenant_id": work.tenant_id,
        "batch_no": after.batch_no,
        "position": after.position,
        "last_batch_no": last.batch_no,
        "last_position": last.position,
        "limit": limit,
    }
    *_, rows = await work.execute_all((_BY_INDEX, {}), (_SQL["read_booked"], parameters))
    found = rows.all()
    entries = await _read_entries(work, found)
    return [_booked(row, entries[row.transfer_id]) for row in found]


async def read_block_transfers(
    work: UnitOfWork, before: Block | None, block: Block
) -> list[BookedTransfer]:
    """Read the transfers of a block, and one more than a block can hold if there are so many."""
    after = BEFORE_ALL if before is None else before.last
    return await read_booked(work, after, block.last, BLOCK_TRANSFERS_MAX + 1)


async def read_unchained(work: UnitOfWork, head: Block | None, settled: int) -> list[Line]:
    """Read what is hashed of the transfers of the next block, in batches up to a number."""
    after = BEFORE_ALL if head is None else head.last
    parameters = {
        "tenant_id": work.tenant_id,
        "batch_no": after.batch_no,
        "position": after.position,
        "last_batch_no": settled,
        "limit": BLOCK_TRANSFERS_MAX,
    }
    *_, rows = await work.execute_all((_BY_INDEX, {}), (_SQL["read_lines"], parameters))
    found = rows.tuples()
    if not found:
        return []
    entries = await _entry_texts(work, {row[2] for row in found}, [row[3] for row in found])
    return [
        Line(
            Place(batch_no, position),
            f"{before}{','.join(entries.get(transfer_id, ()))}{behind}\n".encode(),
        )
        async for batch_no, position, _, transfer_id, before, behind in in_slices(found, _LINES)
    ]


async def _entry_texts(
    work: UnitOfWork, recorded_at: Collection[datetime], transfer_ids: Sequence[str]
) -> dict[str, list[str]]:
    """Read what is hashed of entries, those of each transfer by account and seq."""
    parameters = {
        "tenant_id": work.tenant_id,
        "recorded_at": sorted(recorded_at),
        "transfer_ids": "{" + ",".join(transfer_ids) + "}",
    }
    rows = (await work.execute(_SQL["read_entry_lines"], parameters)).tuples()
    entries: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for transfer_id, *entry in rows:
        entries[transfer_id].append(tuple(entry))
    return {
        transfer_id: [text for _, _, text in sorted(found)]
        for transfer_id, found in entries.items()
    }


async def _read_entries(work: UnitOfWork, rows: Sequence[Any]) -> dict[UUID, list[BookedEntry]]:
    entries: dict[UUID, list[BookedEntry]] = defaultdict(list)
    if rows:
        parameters = {
            "tenant_id": work.tenant_id,
            "recorded_at": sorted({row.recorded_at for row in rows}),
            "transfer_ids": [row.transfer_id for row in rows],
        }
        for found in (await work.execute(_SQL["read_booked_entries"], parameters)).tuples():
            entry = BookedEntry(*found)
            entries[entry.transfer_id].append(entry)
    return entries


def _booked(row: Any, entries: Sequence[BookedEntry]) -> BookedTransfer:
    return BookedTransfer(
        place=Place(row.batch_no, row.position),
        transfer=transfer_of(row),
        flag_bits=row.flags,
        effective_at=row.effective_at,
        recorded_at=row.recorded_at,
        entries=tuple(sorted(entries, key=lambda entry: (entry.account_id, entry.seq))),
    )


async def insert_block(work: UnitOfWork, block: Block) -> None:
    """Write a block."""
    parameters = {
        "tenant_id": work.tenant_id,
        "block_no": block.block_no,
        "first_batch_no": block.first.batch_no,
        "first_position": block.first.position,
        "last_batch_no": block.last.batch_no,
        "last_position": block.last.position,
        "transfer_count": block.transfer_count,
        "transfer_total": block.transfer_total,
        "previous_hash": block.previous_hash,
        "hash": block.hash,
        "recorded_at": block.recorded_at,
    }
    await work.execute(_SQL["insert_block"], parameters)


async def newest_block(work: UnitOfWork) -> Block | None:
    """Read the newest block; None before the first."""
    rows = await work.execute(_SQL["newest_block"], {"tenant_id": work.tenant_id})
    row = rows.one_or_none()
    return None if row is None else _block(row)


async def list_blocks(
    work: UnitOfWork, after: int, limit: int, *, newest_first: bool = False
) -> list[Block]:
    """List blocks behind (or, newest first, before) a number."""
    statement = "list_blocks_newest_first" if newest_first else "list_blocks_oldest_first"
    parameters = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return [_block(row) for row in await work.execute(_SQL[statement], parameters)]


async def read_blocks(work: UnitOfWork, block_nos: Collection[int]) -> dict[int, Block]:
    """Read blocks by their numbers."""
    parameters = {"tenant_id": work.tenant_id, "block_nos": sorted(block_nos)}
    blocks = [_block(row) for row in await work.execute(_SQL["read_blocks"], parameters)]
    return {block.block_no: block for block in blocks}


def _block(row: Any) -> Block:
    return Block(
        block_no=row.block_no,
        first=Place(row.first_batch_no, row.first_position),
        last=Place(row.last_batch_no, row.last_position),
        transfer_count=row.transfer_count,
        transfer_total=row.transfer_total,
        previous_hash=bytes(row.previous_hash),
        hash=bytes(row.hash),
        recorded_at=row.recorded_at,
    )


async def insert_key(work: UnitOfWork, key: SigningKey, box: SecretBox) -> None:
    """Keep a key, unless there is one of its number. Raises SecretsKeyMissing."""
    parameters = {
        "tenant_id": work.tenant_id,
        "key_no": key.key_no,
        "key_id": key.key_id,
        "public_key": key.public,
        "sealed": box.seal(key.private, _place_of_key(work.tenant_id, key.key_no)),
        "now": work.now,
    }
    await work.execute(_SQL["insert_key"], parameters)


async def newest_key(work: UnitOfWork, box: SecretBox) -> SigningKey | None:
    """Read the key that signs; None when there is none yet.

    Raises:
        SecretsKeyMissing: it was sealed under a key that is not set.
        SecretDamaged: it was changed.
    """
    rows = await work.execute(_SQL["newest_key"], {"tenant_id": work.tenant_id})
    row = rows.one_or_none()
    if row is None:
        return None
    private = box.open(bytes(row.sealed), _place_of_key(work.tenant_id, row.key_no))
    return SigningKey(row.key_no, private)


def _place_of_key(tenant_id: str, key_no: int) -> str:
    return f"ledger.signing_key/{tenant_id}/{key_no}"


async def public_keys(work: UnitOfWork) -> dict[str, bytes]:
    """Read all public keys of the tenant, by id."""
    rows = await work.execute(_SQL["public_keys"], {"tenant_id": work.tenant_id})
    return {row.key_id: bytes(row.public_key) for row in rows}


async def insert_head(work: UnitOfWork, head: LedgerHead) -> None:
    """Keep what was stated of a block, unless something was before."""
    parameters = {
        "tenant_id": work.tenant_id,
        "block_no": head.block_no,
        "hash": head.hash,
        "transfer_count": head.transfer_count,
        "signed_at": head.signed_at,
        "key_id": head.key_id,
        "public_key": head.public_key,
        "signature": head.signature,
    }
    await work.execute(_SQL["insert_head"], parameters)


async def read_heads(work: UnitOfWork, block_nos: Collection[int]) -> dict[int, LedgerHead]:
    """Read what was stated of blocks, by their numbers."""
    parameters = {"tenant_id": work.tenant_id, "block_nos": sorted(block_nos)}
    heads = [_head(row) for row in await work.execute(_SQL["read_heads"], parameters)]
    return {head.block_no: head for head in heads}


async def newest_head(work: UnitOfWork) -> LedgerHead | None:
    """Read what was stated of the newest block; None when nothing was."""
    rows = await work.execute(_SQL["newest_head"], {"tenant_id": work.tenant_id})
    row = rows.one_or_none()
    return None if row is None else _head(row)


async def list_heads(work: UnitOfWork, after: int, limit: int) -> list[LedgerHead]:
    """List the heads that were given out, of blocks behind a number."""
    parameters = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return [_head(row) for row in await work.execute(_SQL["list_heads"], parameters)]


def _head(row: Any) -> LedgerHead:
    return LedgerHead(
        tenant_id=row.tenant_id,
        block_no=row.block_no,
        hash=bytes(row.hash),
        transfer_count=row.transfer_count,
        signed_at=row.signed_at,
        key_id=row.key_id,
        public_key=bytes(row.public_key),
        signature=bytes(row.signature),
    )
