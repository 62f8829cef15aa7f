"""What must be true of accounts, as rules on rows that were read together. Pure.

Each rule tells what contradicts it, and takes nothing for granted that a row could say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from services.ledger.domain.findings import HIGH, Check, Finding

# ---- Sums


@dataclass(frozen=True, slots=True)
class SidesOfCurrency:
    """All balances of a currency added up, in minor units."""

    currency_code: str
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


def currency_faults(sums: Iterable[SidesOfCurrency]) -> Iterator[Finding]:
    """Debits equal credits, in each currency, posted and pending."""
    for each in sums:
        for what, debits, credits in (
            ("posted", each.debits_posted, each.credits_posted),
            ("pending", each.debits_pending, each.credits_pending),
        ):
            if debits != credits:
                message = f"{what} debits and credits of {each.currency_code} differ"
                yield Finding(Check.CURRENCY_SUMS, message, str(debits), str(credits))


@dataclass(frozen=True, slots=True)
class PendingSums:
    """What an account says of its holds, and what the holds say; amounts in minor units."""

    account_id: str
    debits: int
    credits: int
    closed: bool
    held_debits: int
    held_credits: int
    is_closed_by_all: bool


def pending_faults(sums: Iterable[PendingSums]) -> Iterator[Finding]:
    """Pending sums are those of the open holds, and an account is closed if it was made so, or while a hold says so."""
    for each in sums:
        for what, found, expected in (
            ("debits", each.debits, each.held_debits),
            ("credits", each.credits, each.held_credits),
        ):
            if found != expected:
                message = f"pending {what} are not the sum of the open holds"
                yield Finding(
                    Check.PENDING_SUMS, message, str(expected), str(found), each.account_id
                )
        if each.closed != each.is_closed_by_all:
            message = "the account is closed or open without a reason"
            expected_state, found_state = _state(each.is_closed_by_all), _state(each.closed)
            yield Finding(
                Check.PENDING_SUMS,
                message,
                expected_state,
                found_state,
                each.account_id,
                severity=HIGH,
            )


def _state(closed: bool) -> str:
    return "closed" if closed else "open"


# ---- Accounts and their entries


@dataclass(frozen=True, slots=True)
class KeptBalance:
    """The balance of an account as it is stored; amounts in minor units.

    Attributes:
        has_balance: there is a balance of the name; else the account is without one.
        has_account: there is an account of the name.
        agrees: it has the currency, type, flags and limits of its account.
    """

    account_id: str
    debits_posted: int
    credits_posted: int
    last_seq: int
    has_balance: bool
    has_account: bool
    agrees: bool


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """What is looked at of an entry by account; amounts in minor units, debits positive."""

    account_id: str
    seq: int
    transfer_id: UUID
    amount_minor: int
    balance_after_minor: int
    currency_code: str
    has_transfer: bool


@dataclass(slots=True)
class Running:
    """How far the entries of an account were followed; sums in minor units."""

    account_id: str = ""
    seq: int = 0
    entries: int = 0
    debits: int = 0
    credits: int = 0

    def follow(self, entry: KeptEntry) -> Iterator[Finding]:
        """Add the next entry; tells what does not follow from those before."""
        if entry.seq != self.seq + 1:
            message = "entries are missing before this one"
            yield _of_entry(entry, message, f"seq {self.seq + 1}", f"seq {entry.seq}")
        after = self.debits - self.credits + entry.amount_minor
        if entry.balance_after_minor != after:
            message = f"the balance after entry {entry.seq} does not follow from the entries before"
            yield _of_entry(entry, message, str(after), str(entry.balance_after_minor))
        if not entry.has_transfer:
            message = f"entry {entry.seq} belongs to no transfer of its time"
            yield _of_entry(entry, message, "a transfer", "none")
        self.seq = entry.seq
        self.entries += 1
        if entry.amount_minor > 0:
            self.debits += entry.amount_minor
        else:
            self.credits -= entry.amount_minor


def _of_entry(entry: KeptEntry, message: str, expected: str, found: str) -> Finding:
    return Finding(Check.ENTRIES, message, expected, found, entry.account_id, entry.transfer_id)


def account_faults(running: Running, balance: KeptBalance) -> Iterator[Finding]:
    """Compare the balance of an account with all its entries."""
    account_id = balance.account_id
    if not balance.has_balance:
        yield no_balance(account_id)
        return
    for what, expected, found in (
        ("debits", running.debits, balance.debits_posted),
        ("credits", running.credits, balance.credits_posted),
        ("count of entries", running.entries, balance.last_seq),
    ):
        if expected != found:
            message = f"the {what} of the balance are not those of the entries"
            yield Finding(Check.BALANCES, message, str(expected), str(found), account_id)
    if not balance.has_account:
        yield Finding(
            Check.BALANCES, "a balance without an account", "an account", "none", account_id
        )
    elif not balance.agrees:
        message = "the balance has another currency, type, flag or limit than the account"
        yield Finding(Check.BALANCES, message, "those of the account", "others", account_id)


def no_balance(account_id: str) -> Finding:
    """Tell of an account, or of entries, without a balance."""
    message = "there is no balance of the account"
    return Finding(Check.BALANCES, message, "a balance", "none", account_id)


def followed(
    running: Running,
    entries: Sequence[KeptEntry],
    balances: Sequence[KeptBalance],
    *,
    all_read: bool,
) -> tuple[Running, list[Finding]]:
    """Follow a page of entries of accounts, and compare the balance of each account whose entries are all read.

    Args:
        running: of the account whose entries the page goes on with.
        entries: by account and seq.
        balances: all accounts that the page is about.
        all_read: the page holds all entries of its accounts; else those of the last account go on.
    """
    findings: list[Finding] = []
    by_account = {name: list(group) for name, group in groupby(entries, lambda e: e.account_id)}
    balance_of = {balance.account_id: balance for balance in balances}
    last = None if all_read else entries[-1].account_id
    goes_on = {running.account_id} if running.entries else set()
    for account_id in sorted(by_account.keys() | balance_of.keys() | goes_on):
        if running.account_id != account_id:
            running = Running(account_id)
        for entry in by_account.get(account_id, ()):
            findings += running.follow(entry)
        if account_id == last:
            break
        balance = balance_of.get(account_id)
        findings += (
            [no_balance(account_id)] if balance is None else account_faults(running, balance)
        )
    return running, findings
