"""Rules of a transfer beside its two accounts: currencies, closing, what balances, limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.ledger.domain.accounts import NO_LIMITS, Limits
from services.ledger.domain.balance import Balance
from services.ledger.domain.transfers import Kind, Transfer, TransferResult, moved
from services.runtime.money import MINOR_UNITS_MAX

_R = TransferResult


def fits(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult | None:
    """Judge by what is fixed about both accounts, and by whether they are closed."""
    return currencies(transfer, debit, credit) or closed(debit, credit)


def currencies(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult | None:
    """Judge by the currencies, which never change."""
    if debit.currency_code != credit.currency_code:
        return _R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY
    if transfer.amount_minor is not None and transfer.currency_code != debit.currency_code:
        return _R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS
    return None


def closed(debit: Balance, credit: Balance) -> TransferResult | None:
    """Judge by whether an account is closed now."""
    if debit.closed:
        return _R.DEBIT_ACCOUNT_CLOSED
    return _R.CREDIT_ACCOUNT_CLOSED if credit.closed else None


def capped(transfer: Transfer, debit: Balance, credit: Balance) -> Transfer | TransferResult:
    """Return a transfer with the amount that it comes to, or why nothing can move."""
    flags = transfer.flags
    if not flags.is_balancing:
        return transfer
    amount = MINOR_UNITS_MAX if transfer.amount_minor is None else transfer.amount_minor
    # What closes an account may be of nothing, as when the account is even.
    closes = transfer.kind is Kind.PENDING and flags.is_closing
    if flags.balancing_debit:
        left = debit.credits_posted - debit.debits_posted - debit.debits_pending
        amount = max(min(amount, left), 0)
        if amount == 0 and not closes:
            return _R.EXCEEDS_CREDITS
    if flags.balancing_credit:
        left = credit.debits_posted - credit.credits_posted - credit.credits_pending
        amount = max(min(amount, left), 0)
        if amount == 0 and not closes:
            return _R.EXCEEDS_DEBITS
    return replace(
        transfer,
        amount_minor=amount,
        currency_code=debit.currency_code,
        asked_all=transfer.amount_minor is None,
    )


def beyond_limits(
    transfer: Transfer,
    debit: Balance,
    credit: Balance,
    since: datetime,
    now: datetime,
    released_minor: int = 0,
) -> TransferResult | None:
    """Judge by the limits of both accounts; holds count as if they were posted where that is the worse case.

    Args:
        transfer: with the amount that it comes to.
        debit, credit: its accounts.
        since: from when on the amount counts, for an account that keeps its limits at every instant.
        now: time of recording.
        released_minor: what the transfer itself takes out of a hold.
    """
    amount = moved(transfer)
    most = amount + _highest(debit, since, now, debit.debits_pending - released_minor)
    least = _lowest(credit, since, now, credit.credits_pending - released_minor) - amount
    if debit.flags.debits_must_not_exceed_credits and most > 0:
        return _R.EXCEEDS_CREDITS
    if credit.flags.credits_must_not_exceed_debits and least < 0:
        return _R.EXCEEDS_DEBITS
    rises = debit.type.grows_by_debit
    if debit.limits is not NO_LIMITS and not _within(debit.limits, most, rises=rises):
        return _R.DEBIT_ACCOUNT_ABOVE_CEILING if rises else _R.DEBIT_ACCOUNT_BELOW_FLOOR
    rises = not credit.type.grows_by_debit
    if credit.limits is not NO_LIMITS and not _within(credit.limits, -least, rises=rises):
        return _R.CREDIT_ACCOUNT_ABOVE_CEILING if rises else _R.CREDIT_ACCOUNT_BELOW_FLOOR
    return None


def _highest(balance: Balance, since: datetime, now: datetime, held_minor: int) -> int:
    """Return the most that debits exceed credits, so many held ones counted; from an instant on if that matters."""
    if balance.timeline is not None:
        return balance.timeline.highest(since, now, held_minor)
    return balance.debits_posted - balance.credits_posted + held_minor


def _lowest(balance: Balance, since: datetime, now: datetime, held_minor: int) -> int:
    """Return the least that debits exceed credits, so many held credits counted."""
    if balance.timeline is not None:
        return balance.timeline.lowest(since, now, held_minor)
    return balance.debits_posted - balance.credits_posted - held_minor


def _within(limits: Limits, net: int, *, rises: bool) -> bool:
    """True where a balance that moved towards one of its limits keeps it; `net` is counted in that direction."""
    if rises:
        return limits.ceiling_minor is None or net <= limits.ceiling_minor
    return limits.floor_minor is None or -net >= limits.floor_minor
