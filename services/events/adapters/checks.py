"""Reading and checking what outside producers send: the work that grows with it, done in other processes.

A tenant's schema decides how long a check takes, and a body how long reading takes. Both run where they hold up
nobody and can be killed: see `services.runtime.workers`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from google.protobuf import struct_pb2
from payments.events.v1 import events_pb2

from services.events.domain import payloads, schemas
from services.events.domain.outside import (
    Incoming,
    Passed,
    Rule,
    checked,
    fingerprint,
)
from services.events.domain.payloads import PayloadInvalid
from services.events.domain.types import EventType, Registration, register
from services.events.messages import body
from services.runtime import cloudevents
from services.runtime.cloudevents import ReadCloudEvent
from services.runtime.context import current
from services.runtime.errors import DomainError
from services.runtime.json_cuts import Fault
from services.runtime.workers import (
    CPU_SECONDS,
    MEMORY_BYTES_MAX,
    CheckTooCostly,
    Overrun,
    Workers,
)

# A body holds as many as four payloads of the largest size.
BODY_BUDGETS = 4
# More of them have two readings as a double.
DIGITS_MAX = 15


class Checks:
    """The work, as calls that wait for it."""

    def __init__(self, workers: Workers, cpu_seconds: float = CPU_SECONDS) -> None:
        self._workers = workers
        self._cpu_seconds = cpu_seconds

    async def events(self, raw: bytes) -> list[events_pb2.Event | Fault]:
        """Read a body of PublishEvents. Raises what `body.read` does, and CheckTooCostly."""
        found = await self._one(_read_events, None, raw, budgets=BODY_BUDGETS)
        return [events_pb2.Event.FromString(i) if isinstance(i, bytes) else i for i in found]

    async def cloud_events(self, raw: bytes, *, batch: bool) -> list[ReadCloudEvent | Fault]:
        """Read a body of CloudEvents. Raises what `cloudevents.cut` does, and CheckTooCostly."""
        found: list[ReadCloudEvent | Fault] = await self._one(
            _read_cloud_events, batch, raw, budgets=BODY_BUDGETS
        )
        return found

    async def texts(self, data: Sequence[struct_pb2.Struct]) -> list[bytes | DomainError]:
        """Write Structs as JSON, always the same way; an error stands for one that cannot be."""
        return await self._all(_text_of, None, [item.SerializeToString() for item in data], [])

    async def payloads(
        self, rules: Mapping[tuple[str, int], Rule], events: Sequence[Incoming]
    ) -> list[Passed | DomainError]:
        """Check events by their rules, by subject and version; those without one get a fingerprint only."""
        return await self._all(_check, rules, events, [event.subject for event in events])

    async def schemas(self, types: Sequence[EventType]) -> list[DomainError | None]:
        """Read the schemas that types declare; an error stands for a type that has one that cannot be."""
        return await self._all(_read_schemas, None, types, [item.subject for item in types])

    async def registration(
        self, standing: EventType | None, declared: EventType, now: datetime
    ) -> Registration:
        """Judge a registration. Raises what `domain.types.register` does, and CheckTooCostly."""
        item = (standing, declared)
        found: Registration = await self._one(_register, now, item, subject=declared.subject)
        return found

    async def _one(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        item: Any,
        *,
        subject: str = "",
        budgets: int = 1,
    ) -> Any:
        (found,) = await self._all(function, shared, [item], [subject], budgets=budgets)
        if isinstance(found, DomainError):
            raise found
        return found

    async def _all(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        subjects: Sequence[str],
        *,
        budgets: int = 1,
    ) -> list[Any]:
        if not items:
            return []
        call = current()
        # Its caller waits no longer: what is stored after half of its time is answered for, the rest says what to do.
        now = time.monotonic()
        until = math.inf if call.deadline_at is None else now + (call.deadline_at - now) / 2
        found = await self._workers.run(
            call.tenant_id, function, shared, items, budgets=budgets, until=until
        )
        return [
            self._costly(item, subjects[at] if subjects else "", budgets * self._cpu_seconds)
            if isinstance(item, Overrun)
            else item
            for at, item in enumerate(found)
        ]

    def _costly(self, overrun: Overrun, subject: str, cpu_seconds: float) -> CheckTooCostly:
        if not overrun.tried:
            return CheckTooCostly(
                "earlier items used up the call's limit of work, so this one was not checked; "
                "send it in a call without them",
                subject=subject,
            )
        return CheckTooCostly(
            f"reading or checking it exceeded the limit of {cpu_seconds:g} s of CPU time and "
            f"{MEMORY_BYTES_MAX // 1024**3} GiB; simplify the schema of its type, or the payload",
            subject=subject,
            cpu_seconds=cpu_seconds,
        )


# ---- In the other process


def _read_events(_: None, raw: bytes) -> list[bytes | Fault]:
    found = body.read(raw)
    return [item if isinstance(item, Fault) else item.SerializeToString() for item in found]


def _read_cloud_events(batch: bool, raw: bytes) -> list[ReadCloudEvent | Fault]:
    cuts = cloudevents.cut(raw, batch=batch, events_max=body.EVENTS_MAX)
    return [cloudevents.read_attributes(cut) for cut in cuts]


def _check(rules: Mapping[tuple[str, int], Rule], event: Incoming) -> Passed:
    rule = rules.get((event.subject, event.version))
    if rule is None:
        return Passed("", fingerprint(event, payloads.read(event.payload)))
    found = checked(event, rule.json_schema, rule.key_field)
    return Passed(found.key, found.fingerprint)


def _read_schemas(_: None, declared: EventType) -> None:
    for version in declared.versions:
        if version.json_schema:
            schemas.read(version.json_schema)


def _register(now: datetime, item: tuple[EventType | None, EventType]) -> Registration:
    return register(*item, now)


def _text_of(_: None, data: bytes) -> bytes:
    return text_of(struct_pb2.Struct.FromString(data))


def text_of(data: struct_pb2.Struct) -> bytes:
    """Write a Struct as JSON, always the same way. Raises PayloadInvalid for a number with two readings."""
    value = struct_pb2.Value(struct_value=data)
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _plain(value: struct_pb2.Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(item) for name, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        return _exact(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _exact(number: float) -> int | float:
    if not math.isfinite(number):
        raise PayloadInvalid(f"{number!r} is not a JSON number", pointer="")
    text = Decimal(repr(number))
    if len(text.normalize().as_tuple().digits) > DIGITS_MAX:
        raise PayloadInvalid(
            f"{number!r} has more than {DIGITS_MAX} significant digits, which a Struct cannot hold "
            "exactly; send the payload as json",
            pointer="",
        )
    # 1.0 and 1 are one number to a Struct.
    return int(text) if text == text.to_integral_value() else number
