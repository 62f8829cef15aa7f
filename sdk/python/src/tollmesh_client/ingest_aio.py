"""The ingester for asyncio: the same queue, spool and senders, whose threads leave the event loop alone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from payments_sdk.payments.metering.v1 import UsageEvent

from tollmesh_client.aio import AsyncClient
from tollmesh_client.client import Client
from tollmesh_client.errors import QueueFull
from tollmesh_client.ingest import (
    IngestOptions,
    OnReceipt,
    OnTrouble,
    OnVerdict,
    Stats,
    UsageIngester,
)
from tollmesh_client.spool import SpoolOptions


class AsyncUsageIngester:
    """Takes usage events over in an event loop. Use as an asynchronous context manager, or close it.

    Arguments, promises and errors are those of UsageIngester. `add` comes back at once while there is room; else only
    its task waits. Callbacks run in threads of the ingester: `loop.call_soon_threadsafe` leads back.
    """

    def __init__(
        self,
        client: AsyncClient,
        options: IngestOptions | None = None,
        *,
        spool: SpoolOptions | None = None,
        on_verdict: OnVerdict | None = None,
        on_receipt: OnReceipt | None = None,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        options = options or IngestOptions()
        self._waits = options.when_full == "block"
        # Each sync of a disk would hold the loop.
        self._in_thread = spool is not None and spool.fsync == "always"
        self._client = Client.of(client.settings)
        try:
            self._inner = UsageIngester(
                self._client,
                dataclasses.replace(options, when_full="block"),
                spool=spool,
                on_verdict=on_verdict,
                on_receipt=on_receipt,
                on_trouble=on_trouble,
            )
        except BaseException:
            self._client.close()
            raise

    async def add(self, event: UsageEvent, *, timeout: float | None = None) -> str:
        """Take an event over; returns its request_id, generated if it has none. See UsageIngester.add."""
        return (await self.add_many([event], timeout=timeout))[0]

    async def add_many(
        self, events: Sequence[UsageEvent], *, timeout: float | None = None
    ) -> list[str]:
        """Take events over; returns their request_ids. See UsageIngester.add_many."""
        inner = self._inner
        inner.owner.check()
        if self._in_thread:
            return await asyncio.to_thread(
                inner.add_many, events, timeout=timeout if self._waits else 0.0
            )
        ids: list[str] = []
        for event in events:
            try:
                ids.append(inner.add(event, timeout=0.0))
            except QueueFull:
                if not self._waits:
                    raise
                ids.append(await asyncio.to_thread(inner.add, event, timeout=timeout))
        return ids

    @property
    def stats(self) -> Stats:
        """Counts at this moment."""
        return self._inner.stats

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was taken over before is answered. See UsageIngester.flush."""
        self._inner.owner.check()
        await asyncio.to_thread(self._inner.flush, timeout)

    async def close(self, timeout: float | None = 30.0) -> Stats:
        """Send what waits and stop. See UsageIngester.close."""
        self._inner.owner.check()
        try:
            return await asyncio.to_thread(self._inner.close, timeout)
        finally:
            self._client.close()

    async def __aenter__(self) -> AsyncUsageIngester:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._inner.owner.is_here:
            await self.close()
