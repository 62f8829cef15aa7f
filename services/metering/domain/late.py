"""Usage that was stored for a period after a charge had closed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.metering.domain.events import EventContent
from services.metering.domain.receipts import Total


@dataclass(frozen=True, slots=True)
class Closing:
    """A period that a charge closed.

    Attributes:
        carried_skus: what the charge read as levels; events from before the period count in it too.
        usage_ordinal: of the usage that the charge saw; None for one from before ordinals.
        usage_snapshot: the same in the words of the database, which alone tell it of a charge from before ordinals.
    """

    charge_id: str
    org_id: str
    start_at: datetime
    end_at: datetime
    usage_ordinal: int | None = None
    usage_snapshot: str = ""
    carried_skus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LateTotal:
    """Usage of one SKU that was stored for a period behind its closing."""

    closing: Closing
    total: Total


@dataclass(frozen=True, slots=True)
class LatePlace:
    """Where a page of late events ended."""

    org_id: str
    event_time: datetime
    event_key: str
    version: int


@dataclass(frozen=True, slots=True)
class LateEvent:
    """A change of usage that its charge does not have, because the period was closed when it was stored.

    Attributes:
        content: of the event; of a cancelled one what counts no more.
        before: content before the change; None for an event that was stored.
        charge_id: the charge that had closed the period.
        ordinal: of the receipt; None until it is given.
        place: where it stands among others.
    """

    content: EventContent
    before: EventContent | None
    cancelled: bool
    charge_id: str
    receipt_id: str
    ordinal: int | None
    recorded_at: datetime
    place: LatePlace


@dataclass(frozen=True, slots=True)
class LateFilter:
    """Which late events to list; an empty organisation and no bounds mean any."""

    org_id: str = ""
    start_at: datetime | None = None
    end_at: datetime | None = None


def late_message(closing: Closing, event_count: int, receipt_id: str) -> str:
    """Say in one sentence that usage came late, for the contract monitor."""
    period = f"{closing.start_at.isoformat()}/{closing.end_at.isoformat()}"
    came = f"with {receipt_id}" if receipt_id else "while the charge was made"
    return (
        f"{event_count} usage events of {closing.org_id} arrived {came} for {period}, which charge {closing.charge_id}"
        " has closed: no charge bills them; see ListLateEvents"
    )
