"""What a process takes in at a time: calls, streams and bytes, in all, of a tenant and of a key.

A key is checked by the head of a call, and only then is its message read. A call has one of the places for work once
its message is there, so who sends slowly, or sends nothing, keeps nobody from working. Streams are counted apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from itertools import count
from typing import Any

import grpc

from services.runtime.access import Principal
from services.runtime.config import Settings
from services.runtime.errors import DeadlineExceeded, Overloaded, UndecodableRequest
from services.runtime.fair_turns import FairTurns

RETRY_AFTER_MS = 1000
# Messages that are read at once. Each may be of 16 MiB, and only those that are read take memory.
READS_MAX = 64
# Of one tenant: whoever sends slowly waits for its own.
TENANT_READS_MAX = 16
# Calls of one tenant that wait to be read. An answer with an error costs less than a call that waits.
TENANT_READS_WAITING_MAX = 512
# Calls without a key whose message is awaited; the one that has waited longest makes room for the next.
KEYLESS_READS_MAX = 64
KEYLESS_READ_SECONDS = 2.0
# Streams that need no key: those of health tell of changes for as long as they are open, reflection is asked and done.
WATCHES_MAX = 512
REFLECTIONS_MAX = 64
CONNECTION_KEYLESS_MAX = 8
REFLECTION_SECONDS = 60.0


class Budget:
    """So much of something, of which one key may have a part.

    Args:
        what: what is counted, in the plural.
        limit: how much there is.
        limit_each: how much of it one key may have.
        whose: what the keys are, as in `of one tenant`.
    """

    def __init__(self, what: str, limit: int, limit_each: int, whose: str) -> None:
        self._what = what
        self._limit = limit
        self._limit_each = min(limit, limit_each)
        self._whose = whose
        self._held: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """How much is taken."""
        return self._total

    def held(self, key: str) -> int:
        """Return how much of it a key has."""
        return self._held[key]

    def take(self, key: str, amount: int = 1) -> None:
        """Take a part of it.

        Raises:
            Overloaded: there is no more, or the key has its part.
        """
        if self._total + amount > self._limit:
            raise self._refusal(self._limit, "")
        if self._held[key] + amount > self._limit_each:
            raise self._refusal(self._limit_each, f" of {self._whose}")
        self._total += amount
        self._held[key] += amount

    def give_back(self, key: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self._total -= amount
        self._held[key] -= amount
        assert self._held[key] >= 0, "more is given back than was taken"
        if not self._held[key]:
            del self._held[key]

    def _refusal(self, limit: int, whose: str) -> Overloaded:
        return Overloaded(
            f"{limit} {self._what}{whose} are under way; wait a moment, and repeat the same request",
            retry_after_ms=RETRY_AFTER_MS,
            limit=limit,
        )


class Taken:
    """Parts of several budgets, taken all or none until the block ends. Entering raises Overloaded."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: tuple[Budget, str, int]) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        for number, (budget, key, amount) in enumerate(self._parts):
            try:
                budget.take(key, amount)
            except Overloaded:
                self._give_back(number)
                raise

    def __exit__(self, *_: object) -> None:
        self._give_back(len(self._parts))

    def _give_back(self, number: int) -> None:
        for budget, key, amount in self._parts[:number]:
            budget.give_back(key, amount)


class _Callers:
    """The budgets of one sort of callers."""

    def __init__(self, settings: Settings, key_rpcs_max: int) -> None:
        calls, each = settings.concurrent_rpcs_max, settings.tenant_rpcs_max
        self.tenants = Budget("calls", calls, each, "one tenant")
        self.keys = Budget("calls", calls, key_rpcs_max, "one key")
        self.streams = Budget(
            "streams", settings.streams_max, settings.tenant_streams_max, "one tenant"
        )
        self.key_streams = Budget(
            "streams", settings.streams_max, settings.key_streams_max, "one key"
        )
        self.bytes = Budget(
            "bytes of requests",
            settings.request_bytes_max,
            settings.tenant_request_bytes_max,
            "one tenant",
        )
        self.reads = FairTurns(READS_MAX, TENANT_READS_MAX)


class Admission:
    """Lets calls in, each within the budgets of its tenant and of its key.

    Services call one another on behalf of a call that is under way. They have budgets of their own: the calls that
    a tenant has under way never take the places that they need to end.
    """

    def __init__(self, settings: Settings) -> None:
        self._body_seconds = settings.body_seconds
        self.callers = _Callers(settings, settings.key_rpcs_max)
        # What a service does for all of a tenant's keys at once is one principal's.
        self.services = _Callers(settings, settings.concurrent_rpcs_max)
        self.watches = Budget("streams", WATCHES_MAX, CONNECTION_KEYLESS_MAX, "one connection")
        self.reflections = Budget(
            "streams", REFLECTIONS_MAX, CONNECTION_KEYLESS_MAX, "one connection"
        )
        self._keyless: OrderedDict[int, asyncio.Timeout] = OrderedDict()
        self._numbers = count()

    def _of(self, principal: Principal) -> _Callers:
        return self.services if principal.is_service else self.callers

    async def message(self, principal: Principal, context: Any, method: str) -> bytes:
        """Read the message of a call that has one.

        Raises:
            Overloaded: too many calls of this tenant wait for theirs.
            DeadlineExceeded: it did not come in time.
            UndecodableRequest: none came.
        """
        reads, tenant_id = self._of(principal).reads, principal.tenant_id
        if reads.waiting_of(tenant_id) >= TENANT_READS_WAITING_MAX:
            raise Overloaded(
                f"{TENANT_READS_WAITING_MAX} calls of one tenant wait to be read; send fewer at a time",
                retry_after_ms=RETRY_AFTER_MS,
                limit=TENANT_READS_WAITING_MAX,
            )
        try:
            async with asyncio.timeout(self._body_seconds):
                await reads.take(tenant_id)
                try:
                    return await _read(context, method)
                finally:
                    reads.give_back(tenant_id)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the message of the call did not come within {self._body_seconds:g} seconds; "
                "send it together with the call's head",
                method=method,
            ) from error

    def work(self, principal: Principal, request_bytes: int) -> Taken:
        """Hold a place among the calls that are worked on, and room for the bytes of its request."""
        callers, tenant_id = self._of(principal), principal.tenant_id
        return Taken(
            (callers.bytes, tenant_id, request_bytes),
            (callers.tenants, tenant_id, 1),
            (callers.keys, f"{tenant_id}/{principal.principal_id}", 1),
        )

    def request(self, principal: Principal, request_bytes: int) -> Taken:
        """Hold room for the bytes of a request alone."""
        return Taken((self._of(principal).bytes, principal.tenant_id, request_bytes))

    def stream(self, principal: Principal) -> Taken:
        """Hold a place among the streams that are open."""
        callers, tenant_id = self._of(principal), principal.tenant_id
        return Taken(
            (callers.streams, tenant_id, 1),
            (callers.key_streams, f"{tenant_id}/{principal.principal_id}", 1),
        )

    # ---- calls that need no key

    async def keyless_message(self, context: Any, method: str) -> bytes:
        """Read the message of a call that needs no key.

        Who sends it with the head of the call has it read at once, however many calls there are that send nothing.

        Raises:
            DeadlineExceeded: it did not come in time, or before many others.
            UndecodableRequest: none came.
        """
        number = next(self._numbers)
        try:
            async with asyncio.timeout(KEYLESS_READ_SECONDS) as limit:
                self._keyless[number] = limit
                if len(self._keyless) > KEYLESS_READS_MAX:
                    _, oldest = self._keyless.popitem(last=False)
                    oldest.reschedule(asyncio.get_running_loop().time())
                return await _read(context, method)
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the message of the call did not come; send it together with the call's head",
                method=method,
            ) from error
        finally:
            self._keyless.pop(number, None)

    def watch(self, peer: str) -> Taken:
        """Hold one of the places of streams of health."""
        return Taken((self.watches, peer, 1))

    def reflection(self, peer: str) -> Taken:
        """Hold one of the places of reflection."""
        return Taken((self.reflections, peer, 1))


async def _read(context: Any, method: str) -> bytes:
    data = await context.read()
    if data is grpc.aio.EOF:
        raise UndecodableRequest("the call has no message; send one", method=method)
    assert isinstance(data, bytes)
    return data
