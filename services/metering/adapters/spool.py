"""The spool on NATS JetStream: a batch is one message, sealed by the mesh.

Whoever may publish to NATS could else write usage of every tenant: what does not carry the seal of this mesh's secret,
or lies under another tenant than it names, is no batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime

from services.metering.domain.spool import HeldBatch, HeldCall, SpoolLevel
from services.metering.domain.times import instant, microseconds
from services.metering.ports import SpoolAway, SpoolRefused, Waiting
from services.runtime.events.jetstream.broker import BrokerAway, BrokerUnfit
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.spool import Message, SpoolStream, TooLarge, group_of

CONTENT_BYTES_MAX = 32 * 1024 * 1024
"""Of one request; more than a call may carry. What says that it is larger is not unpacked."""
_SEAL_BYTES = 32
# The fastest level makes a sixth of ids, times and numbers; what is better costs more than it saves.
_LEVEL = 1
_TIMES = ("received_at", "authenticated_at")
_NAMES = tuple(field.name for field in fields(HeldBatch) if field.name != "content")


class NotABatch(Exception):
    """A message is no batch that this mesh held. The message says why."""


class JetStreamSpool:
    """Holds batches in a stream.

    Args:
        options: where NATS is.
        mesh_secret: seals what is held; the same for all of a mesh.
    """

    def __init__(self, options: Options, mesh_secret: str) -> None:
        self._key = hashlib.sha256(f"tollmesh spool\0{mesh_secret}".encode()).digest()
        owner = hmac.digest(self._key, b"owner", "sha256").hex()[:16]
        self._stream = SpoolStream(options, owner)

    async def hold(self, held: HeldBatch) -> str:
        """Put a batch in; returns the receipt_id of the first, when it is there already."""
        payload = await asyncio.to_thread(seal, self._key, held)
        async with _explained():
            try:
                put = await self._stream.put(held.tenant_id, _name(held), held.receipt_id, payload)
            except TooLarge as error:
                raise SpoolRefused(len(payload), error.bytes_max) from error
        if isinstance(put, int):
            return held.receipt_id
        first = await self._opened(put)
        if first.batch is None:
            raise SpoolAway(f"the spool holds something else under this batch: {first.fault}")
        return first.batch.receipt_id

    async def level(self) -> SpoolLevel:
        """Tell what the stream holds; it is made where there is none."""
        async with _explained():
            state = await self._stream.ensure()
        return SpoolLevel(
            state.made_at, state.messages, state.size_bytes, state.bytes_max, state.oldest_at
        )

    async def next(self, sequence: int) -> Waiting | None:
        """Return what lies behind a place."""
        async with _explained():
            found = await self._stream.next(sequence)
        return None if found is None else await self._opened(found)

    async def find(self, tenant_id: str, receipt_id: str) -> HeldBatch | None:
        """Return a batch that waits."""
        async with _explained():
            found = await self._stream.find(tenant_id, receipt_id)
        if found is None:
            return None
        batch = (await self._opened(found)).batch
        return batch if batch is not None and batch.receipt_id == receipt_id else None

    async def holds_any(self, tenant_id: str) -> bool:
        """Whether batches of a tenant wait."""
        async with _explained():
            return await self._stream.holds(tenant_id)

    async def remove(self, sequence: int) -> None:
        """Take out what lies at a place."""
        async with _explained():
            await self._stream.remove(sequence)

    async def close(self) -> None:
        """Close the connection."""
        await self._stream.close()

    async def _opened(self, found: Message) -> Waiting:
        try:
            batch = await asyncio.to_thread(unseal, self._key, found.payload)
            if found.group != group_of(batch.tenant_id):
                raise NotABatch("it lies under another tenant than it names")
        except NotABatch as error:
            return Waiting(found.sequence, found.group, None, str(error))
        return Waiting(found.sequence, found.group, batch)


@asynccontextmanager
async def _explained() -> AsyncIterator[None]:
    try:
        yield
    except (BrokerAway, BrokerUnfit) as error:
        raise SpoolAway(str(error)) from error


def _name(held: HeldBatch) -> str:
    """Return what the same batch has again when it is sent again: by the same key, in the same call."""
    found = hashlib.blake2b(digest_size=16)
    for part in (held.principal_id.encode(), held.key_sha256, held.call.encode(), held.content):
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()


def seal(key: bytes, held: HeldBatch) -> bytes:
    """Write a batch as a message."""
    said: dict[str, object] = {name: getattr(held, name) for name in _NAMES}
    said |= {name: microseconds(getattr(held, name)) for name in _TIMES}
    said["key_sha256"] = held.key_sha256.hex()
    body = json.dumps(said).encode() + b"\n" + zlib.compress(held.content, _LEVEL)
    return hmac.digest(key, body, "sha256") + body


def unseal(key: bytes, payload: bytes) -> HeldBatch:
    """Read a message back.

    Raises:
        NotABatch: it was not sealed with this key, or by another release that wrote otherwise.
    """
    seal_, body = payload[:_SEAL_BYTES], payload[_SEAL_BYTES:]
    if not hmac.compare_digest(seal_, hmac.digest(key, body, "sha256")):
        raise NotABatch("it does not carry the seal of this mesh's secret")
    head, _, packed = body.partition(b"\n")
    try:
        said = json.loads(head)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, CONTENT_BYTES_MAX)
        if not unpacking.eof:
            raise NotABatch("its content is cut off, or larger than any call")
        given = {name: said[name] for name in _NAMES}
        given |= {name: _time(said[name]) for name in _TIMES}
        given["call"] = HeldCall(said["call"])
        given["key_sha256"] = bytes.fromhex(said["key_sha256"])
    except (ValueError, KeyError, TypeError, OverflowError, zlib.error) as error:
        raise NotABatch(f"it cannot be read: {type(error).__name__}: {error}") from error
    return HeldBatch(**given, content=content)


def _time(at_us: int) -> datetime:
    return instant(at_us).astimezone(UTC)
