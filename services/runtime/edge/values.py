"""Values that every service reads from messages and writes to them: money, periods, times, enums."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from payments.type.v1 import type_pb2

from services.runtime.money import Money

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EnumT = TypeVar("EnumT", bound=Enum)


def money(amount: Money) -> type_pb2.Money:
    """Write an amount."""
    return type_pb2.Money(currency_code=amount.currency_code, minor_units=amount.minor_units)


def money_of(message: type_pb2.Money) -> Money:
    """Read an amount."""
    return Money(message.currency_code, message.minor_units)


def stamp(moment: datetime) -> Timestamp:
    """Write a moment; one without a zone is UTC."""
    # By hand: pages hold thousands, for which FromDatetime takes four times as long.
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def stamp_or_none(moment: datetime | None) -> Timestamp | None:
    """Write a moment that may be missing."""
    return None if moment is None else stamp(moment)


def moment_of(message: Timestamp) -> datetime:
    """Read a moment, in UTC and to the microsecond."""
    return message.ToDatetime(UTC)


def moment_or_none(message: Any, field: str) -> datetime | None:
    """Read a moment from a field that may be unset."""
    return moment_of(getattr(message, field)) if message.HasField(field) else None


def period(start_at: datetime, end_at: datetime) -> type_pb2.Period:
    """Write a period."""
    return type_pb2.Period(start_at=stamp(start_at), end_at=stamp(end_at))


class Names(Generic[EnumT]):
    """An enum of the domain and the enum of the wire that it is written as.

    The names of the wire are those of the domain behind a prefix; a member that is an empty text stands for
    UNSPECIFIED.

    Args:
        members: of the domain; their values are texts.
        wire: the enum of the wire, e.g. `webhooks_pb2.WebhookFormat`.
        prefix: of its names, e.g. `WEBHOOK_FORMAT_`.
    """

    def __init__(self, members: Iterable[EnumT], wire: Any, prefix: str) -> None:
        self._numbers = {
            member: wire.Value(f"{prefix}{str(member.value).upper() or 'UNSPECIFIED'}")
            for member in members
        }
        self._members = {number: member for member, number in self._numbers.items()}

    def write(self, member: EnumT) -> Any:
        """Return the number of a member."""
        return self._numbers[member]

    def read(self, number: int) -> EnumT | None:
        """Return the member of a number; None for UNSPECIFIED, and for what the domain does not know."""
        return self._members.get(number)
