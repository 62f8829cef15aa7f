"""Rules of a transfer beside its two accounts: currencies, closing, what balances, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.ledger.domain.accounts import NO_LIMITS
from services.ledger.domain.transfers import Kind, Transfer, TransferResult, moved
from services.runtime.money import MINOR_UNITS_MAX

if TYPE_CHECKING:
    from services.ledger.domain.posting import Balance

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


def beyond_limits(transfer: Transfer, debit: Balance, credit: Balance) -> TransferResult | None:
    """Judge by the limits of both accounts; holds count as if they were posted where that is the worse case."""
    amount = moved(transfer)
    debits = debit.debits_posted + debit.debits_pending + amount
    credits = credit.credits_posted + credit.credits_pending + amount
    if debit.flags.debits_must_not_exceed_credits and debits > debit.credits_posted:
        return _R.EXCEEDS_CREDITS
    if credit.flags.credits_must_not_exceed_debits and credits > credit.debits_posted:
        return _R.EXCEEDS_DEBITS
    if debit.limits is not NO_LIMITS and not _debit_within(debit, debits):
        is_above = debit.type.grows_by_debit
        return _R.DEBIT_ACCOUNT_ABOVE_CEILING if is_above else _R.DEBIT_ACCOUNT_BELOW_FLOOR
    if credit.limits is not NO_LIMITS and not _credit_within(credit, credits):
        is_below = credit.type.grows_by_debit
        return _R.CREDIT_ACCOUNT_BELOW_FLOOR if is_below else _R.CREDIT_ACCOUNT_ABOVE_CEILING
    return None


def _debit_within(balance: Balance, debits: int) -> bool:
    """True where so many debits keep the limit that a debit comes nearer to."""
    return _within(balance, debits - balance.credits_posted, rises=balance.type.grows_by_debit)


def _credit_within(balance: Balance, credits: int) -> bool:
    """True where so many credits keep the limit that a credit comes nearer to."""
    return _within(balance, credits - balance.debits_posted, rises=not balance.type.grows_by_debit)


def _within(balance: Balance, net: int, *, rises: bool) -> bool:
    limits = balance.limits
    if rises:
        return limits.ceiling_minor is None or net <= limits.ceiling_minor
    return limits.floor_minor is None or -net >= limits.floor_minor
