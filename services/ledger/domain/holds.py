"""Holds: amounts that count against all limits and are posted, voided or given up later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from services.ledger.domain.transfers import Transfer, TransferResult

_R = TransferResult


class HoldState(IntEnum):
    """How a hold stands; the numbers are stored."""

    OPEN = 1
    POSTED = 2
    VOIDED = 3
    EXPIRED = 4


_ENDED = {
    HoldState.POSTED: _R.PENDING_TRANSFER_ALREADY_POSTED,
    HoldState.VOIDED: _R.PENDING_TRANSFER_ALREADY_VOIDED,
    HoldState.EXPIRED: _R.PENDING_TRANSFER_EXPIRED,
}


@dataclass(slots=True)
class Hold:
    """A locked hold while its batch is judged.

    Attributes:
        amount_minor: what was held at first.
        remaining_minor: what can still be posted or voided; 0 once it has ended.
        expires_at: when it is given up; None for never.
        closing_debit, closing_credit: the account stays closed until the hold ends.
    """

    transfer_id: UUID
    debit_account_id: str
    credit_account_id: str
    currency_code: str
    code: int
    amount_minor: int
    remaining_minor: int
    state: HoldState = HoldState.OPEN
    expires_at: datetime | None = None
    closing_debit: bool = False
    closing_credit: bool = False
    multi_capture: bool = False

    def is_due(self, now: datetime) -> bool:
        """True when its time is over, whether it was given up already or not."""
        return self.expires_at is not None and self.expires_at <= now

    def refusal(self, asked: Transfer, now: datetime) -> TransferResult | None:
        """Judge a transfer that posts or voids it: the first rule that it breaks, in order of precedence."""
        is_void, given = asked.kind.voids_hold, asked.amount_minor
        amount = self.remaining_minor if given is None else given
        rules = (
            (
                asked.debit_account_id not in ("", self.debit_account_id),
                _R.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID,
            ),
            (
                asked.credit_account_id not in ("", self.credit_account_id),
                _R.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID,
            ),
            (
                asked.currency_code not in ("", self.currency_code),
                _R.PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY,
            ),
            (asked.code not in (0, self.code), _R.PENDING_TRANSFER_HAS_DIFFERENT_CODE),
            (given is not None and given > self.amount_minor, _R.EXCEEDS_PENDING_TRANSFER_AMOUNT),
            (
                is_void and not self.multi_capture and given not in (None, self.amount_minor),
                _R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
            ),
            (self.state is not HoldState.OPEN, _ENDED.get(self.state)),
            (self.is_due(now), _R.PENDING_TRANSFER_EXPIRED),
            # Only of a hold that was posted in part.
            (not is_void and amount > self.remaining_minor, _R.EXCEEDS_PENDING_TRANSFER_AMOUNT),
            (
                is_void and amount != self.remaining_minor,
                _R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
            ),
            (not is_void and amount <= 0, _R.AMOUNT_MUST_BE_POSITIVE),
        )
        return next((result for broken, result in rules if broken), None)

    def ending(self, asked: Transfer) -> Transfer:
        """Return a transfer that posts or voids it with all that its sender had left open."""
        given = asked.amount_minor
        return replace(
            asked,
            debit_account_id=self.debit_account_id,
            credit_account_id=self.credit_account_id,
            currency_code=self.currency_code,
            amount_minor=self.remaining_minor if given is None else given,
            code=self.code,
            asked_all=given is None,
        )


@dataclass(frozen=True, slots=True)
class HoldView:
    """How a hold stands; amounts in minor units."""

    state: HoldState
    remaining_minor: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer in the books.

    Attributes:
        effective_at: when it takes effect, given or not.
        hold: how it stands, if it is one.
        reversed_by_id: the transfer that reversed it.
    """

    transfer: Transfer
    effective_at: datetime
    recorded_at: datetime
    hold: HoldView | None
    reversed_by_id: UUID | None
