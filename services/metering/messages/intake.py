"""From the events of a message to rows: the hot loop. Part of the servicer: protobuf types stop here.

An event that is plain (ids of the grammar, a printable id, no metadata, inside the window, a known SKU)
takes the short way: one look at a compiled pattern, no objects. Every other event is judged by the rules of the
descriptor, which alone reject. Tests hold the short way to these rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from payments.metering.v1 import metering_pb2

from services.metering.domain.events import (
    EVENT_TOO_NEW,
    EVENT_TOO_OLD,
    METADATA_NOT_ALLOWED,
    UNKNOWN_SKU,
    Batch,
    Policy,
    Rejection,
    Repeat,
    canonical_quantity,
    digest,
)
from services.metering.domain.times import instant
from services.runtime.edge.validation import violations
from services.runtime.errors import InvalidField
from services.runtime.turns import in_slices

_BACKEND = metering_pb2.SOURCE_BACKEND
_SOURCES = frozenset(metering_pb2.Source.values())
_NANOS = range(1_000_000_000)
_SLICE = 1000
"""Plain events between two looks at other calls: about 5 ms. Others take up to a hundred times as long."""
_STEP = 20
"""Events between two looks at the clock."""

_PLAIN = re.compile(
    r"[ -\[\]-~]{1,128}\t"  # request_id: printable ASCII without the backslash
    r"[A-Za-z0-9._:-]{1,64}\t"
    r"[A-Za-z0-9._:-]{0,64}\t"
    r"[A-Za-z0-9._:-]{1,64}\t"
    r"[0-9]{1,15}(?:\.[0-9]{1,18})?\t"
).match
_PLAIN_LABEL = re.compile(r"[A-Za-z0-9._:-]{1,64}\t[ -~]{0,256}").fullmatch
_LABELS_MAX = 16
# Of a refused event. The largest that could be taken has a tenth of it.
KEPT_BYTES_MAX = 64 * 1024
KEPT_CHARS_MAX = 1_000
ID_CHARS_MAX = 64
_spell = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def skus_of(events: Sequence[metering_pb2.UsageEvent]) -> set[str]:
    """Return the SKUs that a batch names, valid or not."""
    return {event.sku for event in events}


def request_ids_of(events: Sequence[metering_pb2.UsageEvent]) -> list[str]:
    """Return the ids of the events of a batch, in its order."""
    return [event.request_id for event in events]


async def judge(events: Sequence[metering_pb2.UsageEvent], policy: Policy) -> Batch:
    """Judge every event of a batch by the rules; lets other calls run in between."""
    batch = Batch(size=len(events))
    async for start in in_slices(range(0, len(events), _STEP), _SLICE // _STEP):
        judge_slice(batch, events[start : start + _STEP], start, policy)
    return batch


def judge_slice(
    batch: Batch, events: Sequence[metering_pb2.UsageEvent], start: int, policy: Policy
) -> None:
    """Judge consecutive events; `start` is the position of the first in its batch."""
    earliest_us, latest_us, skus = policy.earliest_us, policy.latest_us, policy.skus
    allowed = policy.metadata_allowed
    for index, event in enumerate(events, start):
        request_id, sku, quantity = event.request_id, event.sku, event.quantity
        source = event.source or _BACKEND
        moment = event.event_time
        nanos = moment.nanos
        at_us = moment.seconds * 1_000_000 + nanos // 1000
        content = f"{event.org_id}\t{event.project_id}\t{sku}\t{quantity}\t{at_us}\t{source}\t"
        if (
            sku in skus
            and at_us > 0  # at 0 only the rules can tell 1970 from an absent time
            and earliest_us <= at_us <= latest_us
            and _PLAIN(f"{request_id}\t{content}")
            and nanos in _NANOS
            and source in _SOURCES
            and (metadata := _plain_labels(event.metadata)) is not None
            and (not metadata or allowed is None or allowed.issuperset(event.metadata))
            and not event.unreadable
        ):
            if "." in quantity or quantity[0] == "0":
                content = _content(event, at_us, source)
            _take(batch, index, request_id, content, metadata)
        else:
            _take_slowly(batch, index, event, policy)


def _take(batch: Batch, index: int, request_id: str, content: str, metadata: str) -> None:
    # Backslashes stand twice in what was fingerprinted ever since the first event.
    fingerprint = digest(content + metadata.replace("\\", "\\\\"))
    if batch.first_index.setdefault(request_id, index) != index:
        batch.repeats.append(Repeat(index, request_id, fingerprint))
        return
    batch.rows.append((request_id, content, metadata, digest(request_id), fingerprint))


def _take_slowly(batch: Batch, index: int, event: metering_pb2.UsageEvent, policy: Policy) -> None:
    refusal = _refusal(event, policy)
    if refusal is not None:
        reason, message = refusal
        batch.rejections.append(rejection(event, index, reason, message))
        return
    request_id = event.request_id
    content = _content(event, _at_us(event), event.source or _BACKEND)
    metadata = _labels(event.metadata)
    _take(batch, index, request_id, content, metadata)


def refuse(
    events: Sequence[metering_pb2.UsageEvent], index: int, reason: str, message: str
) -> Rejection:
    """Make a refusal of an event of a batch."""
    return rejection(events[index], index, reason, message)


def rejection(event: metering_pb2.UsageEvent, index: int, reason: str, message: str) -> Rejection:
    """Make a refusal of an event, with what is kept of it."""
    return Rejection(
        index,
        event.request_id[:128],
        reason,
        message,
        _kept(event),
        event.org_id[:ID_CHARS_MAX],
        event.sku[:ID_CHARS_MAX],
    )


def _kept(event: metering_pb2.UsageEvent) -> bytes:
    """Return what is kept of a refused event: all of it, unless it is larger than any event that could be taken."""
    if event.ByteSize() > KEPT_BYTES_MAX:
        whole, event = event, metering_pb2.UsageEvent(source=event.source)
        for name in ("request_id", "org_id", "project_id", "sku", "quantity", "unreadable"):
            setattr(event, name, getattr(whole, name)[:KEPT_CHARS_MAX])
        if whole.HasField("event_time"):
            event.event_time.CopyFrom(whole.event_time)
    return event.SerializeToString(deterministic=True)


def _at_us(event: metering_pb2.UsageEvent) -> int:
    return event.event_time.seconds * 1_000_000 + event.event_time.nanos // 1000


def _content(event: metering_pb2.UsageEvent, at_us: int, source: int) -> str:
    """Spell what makes two events of one id the same, but for the metadata."""
    quantity = canonical_quantity(event.quantity)
    return f"{event.org_id}\t{event.project_id}\t{event.sku}\t{quantity}\t{at_us}\t{source}\t"


def _plain_labels(metadata: Mapping[str, str]) -> str | None:
    """Spell plain metadata; None when only the rules can tell whether it is valid."""
    if not metadata:
        return ""
    if len(metadata) > _LABELS_MAX:
        return None
    for key, value in metadata.items():
        if not _PLAIN_LABEL(f"{key}\t{value}"):
            return None
    return _labels(metadata)


def _labels(metadata: Mapping[str, str]) -> str:
    """Spell metadata as JSON in one way; empty when there is none."""
    return _spell(dict(metadata)) if metadata else ""


def _refusal(event: metering_pb2.UsageEvent, policy: Policy) -> tuple[str, str] | None:
    """Return reason and message of the first rule that an event breaks; None when it breaks none."""
    if event.unreadable:
        return InvalidField.reason, f"the event cannot be read: {event.unreadable[:500]}"
    broken = violations(event)
    if broken:
        return InvalidField.reason, InvalidField.of(broken).message
    return _refusal_by_policy(event, _at_us(event), policy)


def _refusal_by_policy(
    event: metering_pb2.UsageEvent, at_us: int, policy: Policy
) -> tuple[str, str] | None:
    if at_us < policy.earliest_us:
        return EVENT_TOO_OLD, (
            f"event_time is before {_iso(policy.earliest_us)}, the earliest time accepted now;"
            " the ingest setting accept_past limits how far back"
        )
    if at_us > policy.latest_us:
        return EVENT_TOO_NEW, (
            f"event_time is after {_iso(policy.latest_us)}, the latest time accepted now;"
            " the ingest setting accept_future limits how far ahead"
        )
    if event.sku not in policy.skus:
        return UNKNOWN_SKU, (
            f"the catalogue has no SKU {event.sku}; add it there, then send the event again"
        )
    if policy.metadata_allowed is not None:
        return _not_allowed(sorted(event.metadata.keys() - policy.metadata_allowed))
    return None


def _not_allowed(keys: Sequence[str]) -> tuple[str, str] | None:
    if not keys:
        return None
    return METADATA_NOT_ALLOWED, (
        f"metadata has {', '.join(keys)}, which the ingest setting metadata_allowed does not have; "
        "allow it and replay the event, or replay it with drop_metadata"
    )


def _iso(at_us: int) -> str:
    return instant(at_us).isoformat().replace("+00:00", "Z")
