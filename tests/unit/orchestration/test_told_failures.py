"""What a failed payment is told as: every outcome by every method, beside the table of the reference page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from payments.events.v1 import orchestration_events_pb2 as events

from services.orchestration import facts
from services.orchestration.adapters.http_json.form import FAILURE_CODES
from services.orchestration.adapters.sandbox import CHARGE_TOKENS
from services.orchestration.adapters.stripe.errors import REFUSALS
from services.orchestration.domain import outcome
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    Attempt,
    AttemptStatus,
    PaymentStatus,
    Policy,
    Progress,
)
from services.orchestration.domain.plan import Step
from services.orchestration.domain.record import Payment
from services.orchestration.domain.request import Context
from services.orchestration.domain.retries import RetryRule, Withheld

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "payments.md"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
METHODS = ("card", "ach", "cash", "check", "credit_balance")
CODES = (
    "card_declined",
    "insufficient_funds",
    "expired_card",
    "network_error",
    "provider_unavailable",
    "other",
)
"""The contract's own words."""


def sent(method: str) -> Attempt:
    return Attempt(
        "att",
        0,
        1,
        Operation.CHARGE,
        f"{method}-processor",
        700,
        "key",
        AttemptStatus.SENT,
        NOW,
        sent_at=NOW,
    )


def outcomes(method: str) -> list[Attempt]:
    """All ways in which an attempt fails, with every word that an adapter has."""
    words = {each.failure_code for each in REFUSALS.values()} | FAILURE_CODES
    words |= {each.failure_code for each in CHARGE_TOKENS.values() if each.failure_code}
    refused = [
        outcome.declined(
            sent(method),
            method,
            NOW,
            provider_ref="ref",
            error_code="declined",
            failure_code=word,
            retryable=False,
            message="no",
        )
        for word in sorted(words)
    ]
    return [
        *refused,
        *(
            # What the same instrument was refused as before, by whatever method.
            outcome.withheld(sent(method), Withheld(RetryRule.NEVER_AGAIN, word, "no"), method, NOW)
            for word in sorted(words | {"card_declined"})
        ),
        outcome.not_sent(sent(method), "refused", NOW),
        outcome.not_charged(sent(method), NOW),
    ]


def told(method: str, attempt: Attempt) -> events.PaymentFailed:
    """The event of a payment that failed by an attempt."""
    failed = PaymentStatus.FAILED
    steps = (Step(method, 700, (attempt.processor_id,)),)
    payment = Payment(
        "pay",
        "key",
        "acme",
        "o",
        "p",
        "",
        "USD",
        700,
        Context.__new__(Context),
        failed,
        1,
        NOW,
        NOW,
        None,
        Progress(failed, steps, (attempt,), Policy(1, 1000, False)),
    )
    (event,) = facts.of_end(payment, NOW)
    assert isinstance(event, events.PaymentFailed)
    return event


def cells() -> dict[tuple[str, str], bool]:
    """The table of the page: whether a code is told by a method."""
    found: dict[tuple[str, str], bool] = {}
    for line in PAGE.read_text().split("## What a failed payment is told as")[1].splitlines():
        if line.startswith("| `"):
            code, _, *marks = (cell.strip() for cell in line.strip("|").split("|"))
            for method, mark in zip(METHODS, marks, strict=True):
                assert mark in ("told", "-"), line
                found[code.strip("`"), method] = mark == "told"
    return found


def test_the_page_tells_every_cell_as_it_is() -> None:
    made = {
        (told(method, attempt).failure_code, method)
        for method in METHODS
        for attempt in outcomes(method)
    }
    table = cells()
    assert {(code, method) for code in CODES for method in METHODS} <= table.keys()
    assert made == {cell for cell, is_told in table.items() if is_told}


def test_a_failure_has_its_path_its_method_and_a_reference() -> None:
    for method in METHODS:
        for attempt in outcomes(method):
            event = told(method, attempt)
            assert (event.payment_path, event.payment_method) == ("active_charge", method)
            ref = "ref" if attempt.status is AttemptStatus.DECLINED else "ext_att"
            assert event.provider_ref == ref
            assert (event.amount_cents, event.currency, event.order_id) == (700, "USD", "o")
