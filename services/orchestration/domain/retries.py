"""When an instrument that was refused may be tried again: what its issuer forbids, and how often schemes allow it.

Counted is by instrument and merchant, over all payments, since issuers and schemes count so too. Nothing here knows the
time: whoever asks says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Scheme(StrEnum):
    """Whose card it is, as far as its first digits tell."""

    VISA = "VISA"
    MASTERCARD = "MASTERCARD"
    UNKNOWN = "UNKNOWN"


class RetryRule(StrEnum):
    """What keeps an instrument from being tried again; the names of the proto."""

    NEVER_AGAIN = "NEVER_AGAIN"
    VISA_15_IN_30_DAYS = "VISA_15_IN_30_DAYS"
    MASTERCARD_10_IN_24_HOURS = "MASTERCARD_10_IN_24_HOURS"
    MASTERCARD_35_IN_30_DAYS = "MASTERCARD_35_IN_30_DAYS"


@dataclass(frozen=True, slots=True)
class Cap:
    """How many tries without success a scheme allows within a window that slides."""

    rule: RetryRule
    scheme: Scheme
    tries_max: int
    window: timedelta


CAPS = (
    Cap(RetryRule.VISA_15_IN_30_DAYS, Scheme.VISA, 15, timedelta(days=30)),
    Cap(RetryRule.MASTERCARD_10_IN_24_HOURS, Scheme.MASTERCARD, 10, timedelta(hours=24)),
    Cap(RetryRule.MASTERCARD_35_IN_30_DAYS, Scheme.MASTERCARD, 35, timedelta(days=30)),
)
# So far back an issuer's "never again" holds, too: by then the token may stand for another card.
LOOKED_BACK = timedelta(days=30)
# No cap needs more tries to be looked at.
TRIES_MAX = max(cap.tries_max for cap in CAPS)


@dataclass(frozen=True, slots=True)
class Tried:
    """A try to take an amount with an instrument that did not succeed, or has not yet.

    Attributes:
        at: when it was made.
        never_again: the issuer forbids to try again.
        failure_code: why it was refused; empty while it is under way.
    """

    at: datetime
    never_again: bool = False
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why an order is not sent.

    Attributes:
        failure_code: of the refusal that it rests on.
    """

    rule: RetryRule
    failure_code: str
    message: str


def instrument_of(merchant_id: str, token: str) -> str:
    """Return what stands for an instrument of a merchant, not readable; empty without a token."""
    if not token:
        return ""
    return hashlib.sha256(f"{merchant_id}\n{token}".encode()).hexdigest()


def scheme_of(digits: str) -> Scheme:
    """Return the scheme by a card's first digits; four tell Mastercard's newer numbers from others."""
    if digits.startswith("4"):
        return Scheme.VISA
    if "51" <= digits[:2] <= "55" or "2221" <= digits[:4] <= "2720":
        return Scheme.MASTERCARD
    return Scheme.UNKNOWN


def withheld(scheme: Scheme, tried: Sequence[Tried], now: datetime) -> Withheld | None:
    """Say why an instrument is not tried again; None when it may be.

    Args:
        scheme: whose it is.
        tried: tries of the last 30 days without success, the newest first; those under way may still fail, and count.
        now: when that is asked.
    """
    recent = [each for each in tried if now - each.at < LOOKED_BACK]
    for each in recent:
        if each.never_again:
            message = (
                f"not sent: its issuer refused it for good on {each.at:%Y-%m-%d} ({each.failure_code});"
                " ask the payer for another instrument"
            )
            return Withheld(RetryRule.NEVER_AGAIN, each.failure_code, message)
    for cap in CAPS:
        within = [each for each in recent if now - each.at < cap.window]
        if cap.scheme is scheme and len(within) >= cap.tries_max:
            oldest = within[cap.tries_max - 1].at
            message = (
                f"not sent: {len(within)} tries without success within {_shown(cap.window)}, of which"
                f" {scheme.value.capitalize()} allows {cap.tries_max}; possible again from"
                f" {oldest + cap.window:%Y-%m-%d %H:%M} UTC"
            )
            last = next((each.failure_code for each in within if each.failure_code), "declined")
            return Withheld(cap.rule, last, message)
    return None


def _shown(window: timedelta) -> str:
    return f"{window.days} days" if window.days > 1 else f"{window // timedelta(hours=1)} hours"
