"""Stored events, one by one, as they count at an ordinal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.metering.domain.events import EventContent

_LAST_KEY = str(UUID(int=2**128 - 1))
_FIRST_KEY = str(UUID(int=0))
_BEFORE_ALL = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventsAsked:
    """Which events; empty texts mean any.

    Attributes:
        include_cancelled: those that count nowhere too.
    """

    start_at: datetime
    end_at: datetime
    org_id: str = ""
    sku: str = ""
    include_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Where a page of stored events ended: those that were never corrected come first.

    Attributes:
        corrected: it ended among those that were.
    """

    corrected: bool = False
    org_id: str = ""
    sku: str = ""
    at: datetime = _BEFORE_ALL
    key: str = _FIRST_KEY


CORRECTED = ListPlace(corrected=True)
"""Before the first event that was corrected."""


def behind(org_id: str, sku: str, end_at: datetime) -> ListPlace:
    """Return the place behind all that an organisation used of a SKU before an instant."""
    return ListPlace(org_id=org_id, sku=sku, at=end_at, key=_LAST_KEY)


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """A stored event as it counts.

    Attributes:
        version: of the content; 0 for the event as it was sent.
        place: where it stands among others.
    """

    content: EventContent
    version: int
    cancelled: bool
    place: ListPlace


@dataclass(frozen=True, slots=True)
class Listed:
    """Events of a page, which may be none although more follow.

    Attributes:
        end: place to go on from; None at the end of the list.
    """

    events: Sequence[ListedEvent]
    end: ListPlace | None


LAST_SKU = "\U0010ffff"
"""Comes behind every SKU."""


@dataclass(frozen=True, slots=True)
class OrgPlace:
    """Where a page of organisations ended: the last pair of organisation and SKU that was looked at."""

    org_id: str = ""
    sku: str = ""


@dataclass(frozen=True, slots=True)
class ListedOrgs:
    """Organisations of a page, which may be none although more follow.

    Attributes:
        end: place to go on from; None at the end of the list.
    """

    org_ids: Sequence[str]
    end: OrgPlace | None
