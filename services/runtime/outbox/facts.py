"""Facts that the runtime itself tells: it knows their subjects and fields, and the payloads belong to services."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.runtime.outbox import registry

# A contract was broken: what the contract monitor records.
VIOLATED = "contract.violated"
# A journey's timer came due.
JOURNEY_TIMER_FIRED = "journey.timer.fired"


def fact(subject: str, **fields: Any) -> Message:
    """Build the newest payload of a subject.

    Raises:
        LookupError: this release has no event of that subject.
        ValueError: its payload has no such field.
    """
    # The stubs give a message of no known class no fields.
    build: Any = registry.newest(subject).message_class
    payload: Message = build(**fields)
    return payload


def tells(payload: Message, subject: str) -> bool:
    """True for a payload of any version of a subject."""
    kind = registry.all_types().get(payload.DESCRIPTOR.full_name)
    return kind is not None and kind.subject == subject
