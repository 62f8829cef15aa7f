"""What processors tell by themselves, and why it is not taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from services.orchestration.domain.payment import OPEN, Attempt, AttemptStatus
from services.orchestration.domain.record import Payment
from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, DomainError, InvalidField

_EVENT_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,255}")
# Processors keep other systems' references too, in any text: none but ours is looked for, or stored.
_ATTEMPT_ID = re.compile(r"att_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMED = re.compile(rb"\b" + _ATTEMPT_ID.pattern.encode() + rb"\b")
# An event is about one attempt; it may name a few more, e.g. the charge that a refund belongs to.
NAMED_MAX = 10
# What a word about it may still change: it is open, or counts as not done, and a late word would say otherwise.
_NOT_DONE = OPEN | {
    AttemptStatus.MANUAL,
    AttemptStatus.DECLINED,
    AttemptStatus.NOT_CHARGED,
    AttemptStatus.NOT_SENT,
}


class SignatureInvalid(DomainError):
    """No secret that is kept makes the signature, or it is too old."""

    code = Code.INVALID_ARGUMENT
    reason = "SIGNATURE_INVALID"
    state_dependent = True
    processor_id: str


class WebhooksNotExpected(DomainError):
    """Nothing that the processor says can be checked."""

    code = Code.FAILED_PRECONDITION
    reason = "WEBHOOKS_NOT_EXPECTED"
    state_dependent = True
    processor_id: str


class ProcessorSilent(DomainError):
    """A processor told of an attempt, and did not answer when it was asked about it."""

    code = Code.ABORTED
    reason = "PROCESSOR_SILENT"
    state_dependent = True
    processor_id: str
    attempt_id: str


class WebhookOutcome(StrEnum):
    """What came of an event; the names of the proto."""

    APPLIED = "APPLIED"
    REPEATED = "REPEATED"
    IGNORED = "IGNORED"


@dataclass(frozen=True, slots=True)
class News:
    """An event of a processor, with a signature that is right.

    Attributes:
        event_id: the processor's; the same when it is sent again.
        merchant_ref: the attempt that it is about; empty for none of ours, or for what changes nothing.
    """

    event_id: str
    merchant_ref: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """What came of an event.

    Attributes:
        payment_id: what it is about; empty for none of ours.
    """

    event_id: str
    outcome: WebhookOutcome
    payment_id: str = ""


def news(event_id: object, merchant_ref: object) -> News:
    """Read an event of which the signature was right. Raises InvalidField."""
    if (
        not isinstance(event_id, str)
        or not _EVENT_ID.fullmatch(event_id)
        or holds_card_number(event_id)
    ):
        raise InvalidField.one("raw_request", "must be an event with an id of its own")
    is_ours = isinstance(merchant_ref, str) and _ATTEMPT_ID.fullmatch(merchant_ref)
    return News(event_id, str(merchant_ref) if is_ours else "")


def attempts_named(body: bytes) -> list[str]:
    """Return the first references of ours in a request whose signature is not checked yet, each once."""
    named: dict[str, None] = {}
    for found in _NAMED.finditer(body):
        named[found.group().decode()] = None
        if len(named) == NAMED_MAX:
            break
    return list(named)


def concerned(payment: Payment, attempt: Attempt) -> list[Attempt]:
    """Return what a word about an attempt may change: itself, and what follows it and is open."""
    followers = [
        each
        for each in payment.work.attempts
        if each.parent_id == attempt.attempt_id and each.status in OPEN | {AttemptStatus.MANUAL}
    ]
    return [attempt, *followers] if attempt.status in _NOT_DONE else followers


def signature_invalid(processor_id: str) -> SignatureInvalid:
    """Say that a signature is not right."""
    return SignatureInvalid(
        f"the request has no signature of {processor_id} that is right and recent: compare the webhook secret, and the"
        " clocks",
        processor_id=processor_id,
    )


def not_expected(processor_id: str) -> WebhooksNotExpected:
    """Say that no word of a processor can be checked."""
    return WebhooksNotExpected(
        f"no word of {processor_id} can be checked: have webhook_secrets kept with its credential",
        processor_id=processor_id,
    )


def silent(attempt: Attempt) -> ProcessorSilent:
    """Say that a processor does not answer."""
    return ProcessorSilent(
        f"{attempt.processor_id} does not answer what became of {attempt.attempt_id}: send the same event again",
        processor_id=attempt.processor_id,
        attempt_id=attempt.attempt_id,
        retry_after_ms=5_000,
    )
