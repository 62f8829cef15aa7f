"""What metering needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from services.metering.domain.events import Batch, Policy, Refuse
from services.metering.domain.spool import HeldBatch, HeldCall, SpoolLevel


@dataclass(frozen=True, slots=True)
class Price:
    """What a use costs, exactly, in major units of the currency of the organisation's plan."""

    currency_code: str
    amount: Decimal


class Prices(Protocol):
    """The catalogue's prices, as metering asks for them."""

    async def price_of(self, org_id: str, sku: str, prior: Decimal, quantity: Decimal) -> Price:
        """Return what a quantity costs an organisation beyond what it has used before, by its plan of now.

        Raises:
            DomainError: pricing's refusal (NO_PLAN, SKU_NOT_PRICED), or DEPENDENCY_UNAVAILABLE.
        """


@dataclass(frozen=True, slots=True)
class ReadCall:
    """A batch as a call brought it, read and not judged.

    Attributes:
        size: events in it.
        request_ids: gives those of its events, as they were sent.
        skus: that it names.
        judge: applies the rules to its events.
        refuse: makes a refusal of an event that has no fault of its own.
    """

    size: int
    request_ids: Callable[[], Sequence[str]]
    skus: Set[str]
    judge: Callable[[Policy], Awaitable[Batch]]
    refuse: Refuse


class HeldCalls(Protocol):
    """Reads again what a call brought."""

    async def read(self, call: HeldCall, content: bytes) -> ReadCall:
        """Read a request.

        Raises:
            DomainError: it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the spool holds at one place.

    Attributes:
        sequence: the place; what came later has a greater one.
        group: tells the batches of one tenant from those of others, also where they cannot be read.
        batch: what lies there; None when it is no batch of this mesh.
        fault: why it is none.
    """

    sequence: int
    group: str
    batch: HeldBatch | None
    fault: str = ""


class SpoolAway(Exception):
    """The spool cannot be reached, or cannot be used as it is. The message says why."""


class SpoolRefused(SpoolAway):
    """The spool cannot hold a batch, which is larger than it takes.

    Attributes:
        size_bytes: what the batch weighs.
        bytes_max: what it may weigh.
    """

    def __init__(self, size_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"the batch has {size_bytes:,} bytes as it would be held, and the spool takes {bytes_max:,} at once; send "
            "fewer events in one call"
        )
        self.size_bytes = size_bytes
        self.bytes_max = bytes_max


class Spool(Protocol):
    """Holds batches outside of the database, durably. All of it raises SpoolAway."""

    async def hold(self, held: HeldBatch) -> str:
        """Hold a batch; returns its receipt_id: that of the first, when it is held already.

        Raises:
            SpoolRefused: the batch is too large.
        """

    async def level(self) -> SpoolLevel:
        """Tell what it holds."""

    async def next(self, sequence: int) -> Waiting | None:
        """Return what lies behind a place; None when that is nothing."""

    async def find(self, tenant_id: str, receipt_id: str) -> HeldBatch | None:
        """Return a batch of a tenant that waits; None when it does not."""

    async def holds_any(self, tenant_id: str) -> bool:
        """Whether batches of a tenant wait."""

    async def remove(self, sequence: int) -> None:
        """Let go of what lies at a place."""

    async def close(self) -> None:
        """End the connection."""
