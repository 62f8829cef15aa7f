"""Closing blocks of the chain, and stating what its newest one is."""

from __future__ import annotations

import os

from services.ledger.domain.chain import Block, next_block
from services.ledger.domain.heads import KEY_BYTES, LedgerHead, SigningKey, signed
from services.ledger.store import chain as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.secrets import SecretBox


async def close_block(work: UnitOfWork) -> Block | None:
    """Seal the next transfers of the tenant; None when there are none, or an older transaction may still add some.

    Two at once: the second waits, and finds the block of the first.
    """
    settled = await store.settled_batch_no(work)
    if settled is None:
        return None
    await store.lock_chain(work)
    head = await store.newest_block(work)
    lines = await store.read_unchained(work, head, settled)
    if not lines:
        return None
    block = next_block(work.tenant_id, head, lines, work.now)
    await store.insert_block(work, block)
    return block


class Chain:
    """The chain of the tenant that the running call acts for.

    Args:
        box: keeps the keys that sign heads.
    """

    def __init__(self, database: Database, box: SecretBox) -> None:
        self._database = database
        self._box = box

    async def blocks(self, after: int, limit: int, *, newest_first: bool) -> list[Block]:
        """List blocks behind (or, newest first, before) a number."""
        async with self._database.read() as work:
            return await store.list_blocks(work, after, limit, newest_first=newest_first)

    async def head(self) -> LedgerHead:
        """Return the newest block, signed; it is signed once, when it is asked for first.

        Raises:
            NotFound: no block was closed yet.
            SecretsKeyMissing: the key that signs cannot be kept, or read.
        """
        async with self._database.read() as work:
            found = await store.newest_head(work)
        return found or await self._sign()

    async def _sign(self) -> LedgerHead:
        async with self._database.unit_of_work("ledger.sign_head") as work:
            block = await store.newest_block(work)
            if block is None:
                raise NotFound("ledger head", "newest")
            key = await store.newest_key(work, self._box)
            if key is None:
                await store.insert_key(work, SigningKey(1, os.urandom(KEY_BYTES)), self._box)
                # Of two calls at once the first one's key is it.
                key = await store.newest_key(work, self._box)
                assert key is not None
            await store.insert_head(work, signed(work.tenant_id, block, key, work.now))
            head = (await store.read_heads(work, [block.block_no]))[block.block_no]
        return head
