"""What must be true of transfers, their ids and holds, as rules on rows that were read together. Pure.

Each rule tells what contradicts it, and takes nothing for granted that a row could say otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

from services.ledger.domain.chain import BookedEntry, BookedTransfer
from services.ledger.domain.findings import Check, Finding
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.integrity_reversals import Note
from services.ledger.domain.reversals import opposite
from services.ledger.domain.transfers import (
    Kind,
    Transfer,
    TransferResult,
    fingerprint,
    moved,
)

_POSTS = (Kind.POSTED, Kind.POST_PENDING)

# ---- Transfers


@dataclass(frozen=True, slots=True)
class KeptId:
    """What is stored of a transfer_id."""

    fingerprint: bytes
    result: int
    recorded_at: datetime | None


@dataclass(frozen=True, slots=True)
class TransferFacts:
    """A transfer, and what is stored of it elsewhere.

    Attributes:
        id_row: of its id.
        has_hold: there is a hold of its id.
        ends_hold: there is a hold of its pending_id.
        note: what it is noted to take back, looked for where it reverses another as a whole.
    """

    booked: BookedTransfer
    id_row: KeptId | None
    has_hold: bool
    ends_hold: bool
    note: Note | None = None


def transfers_faults(
    page: Sequence[TransferFacts], reversed_: Mapping[UUID, Transfer]
) -> list[Finding]:
    """Judge transfers; `reversed_` are those that they reverse, by id."""
    findings: list[Finding] = []
    for facts in page:
        findings += _entries_faults(facts.booked)
        findings += _hold_faults_of(facts)
        findings += _id_faults(facts)
        findings += _reversal_faults(facts.booked.transfer, facts.note, reversed_)
    return findings


def _entries_faults(booked: BookedTransfer) -> Iterator[Finding]:
    transfer = booked.transfer
    transfer_id = transfer.transfer_id
    wanted = 2 if transfer.kind in _POSTS else 0
    if len(booked.entries) != wanted:
        message = f"a transfer of kind {transfer.kind.name} has another number of entries"
        yield Finding(
            Check.TRANSFERS, message, str(wanted), str(len(booked.entries)), transfer_id=transfer_id
        )
        return
    sides = (
        (transfer.debit_account_id, transfer.credit_account_id, moved(transfer)),
        (transfer.credit_account_id, transfer.debit_account_id, -moved(transfer)),
    )
    by_sign = sorted(booked.entries, key=lambda entry: -entry.amount_minor)
    for entry, (account_id, counter, amount) in zip(by_sign, sides if wanted else (), strict=True):
        yield from _entry_faults(booked, entry, account_id, counter, amount)


def _entry_faults(
    booked: BookedTransfer, entry: BookedEntry, account_id: str, counter: str, amount: int
) -> Iterator[Finding]:
    transfer = booked.transfer
    for what, expected, found in (
        ("account", account_id, entry.account_id),
        ("amount", amount, entry.amount_minor),
        ("other account", counter, entry.counter_account_id),
        ("currency", transfer.currency_code, entry.currency_code),
        ("code", transfer.code, entry.code),
        ("time of recording", booked.recorded_at, entry.recorded_at),
        ("effective time", booked.effective_at, entry.effective_at),
    ):
        if expected != found:
            message = f"the {what} of an entry is not that of its transfer"
            yield Finding(
                Check.TRANSFERS,
                message,
                str(expected),
                str(found),
                entry.account_id,
                transfer.transfer_id,
            )


def _hold_faults_of(facts: TransferFacts) -> Iterator[Finding]:
    transfer = facts.booked.transfer
    is_hold, ends = transfer.kind is Kind.PENDING, transfer.kind.ends_hold
    if is_hold != facts.has_hold:
        expected, found = ("a hold", "none") if is_hold else ("none", "a hold")
        yield Finding(
            Check.HOLDS,
            "a hold and its transfer go together",
            expected,
            found,
            transfer_id=transfer.transfer_id,
        )
    if ends != (transfer.pending_id is not None) or (ends and not facts.ends_hold):
        message = (
            "a transfer that posts or voids a hold names one that exists, and no other names one"
        )
        yield Finding(
            Check.HOLDS,
            message,
            "a hold" if ends else "none",
            str(transfer.pending_id),
            transfer_id=transfer.transfer_id,
        )


def _id_faults(facts: TransferFacts) -> Iterator[Finding]:
    booked, row = facts.booked, facts.id_row
    transfer_id = booked.transfer.transfer_id
    if row is None:
        message = "nothing is kept of the id of a transfer: it could be posted again"
        yield Finding(Check.TRANSFER_IDS, message, "a row", "none", transfer_id=transfer_id)
        return
    if row.result != TransferResult.OK:
        message = "the id of a transfer is kept as refused"
        yield Finding(Check.TRANSFER_IDS, message, "OK", str(row.result), transfer_id=transfer_id)
    if row.recorded_at != booked.recorded_at:
        message = "the id of a transfer was recorded at another time"
        yield Finding(
            Check.TRANSFER_IDS,
            message,
            str(booked.recorded_at),
            str(row.recorded_at),
            transfer_id=transfer_id,
        )
    if is_as_asked(booked, row.fingerprint) is False:
        message = "the transfer is not what was asked for under its id"
        yield Finding(
            Check.TRANSFER_IDS,
            message,
            row.fingerprint.hex(),
            fingerprint(next(_asked(booked))).hex(),
            transfer_id=transfer_id,
        )


def is_as_asked(booked: BookedTransfer, content: bytes) -> bool | None:
    """Tell whether a fingerprint is that of what a transfer came from; None where that cannot be known.

    What a sender had left open is tried both ways. Of a balancing transfer up to an amount, that amount is not kept.
    """
    if booked.transfer.flags.is_balancing and not booked.transfer.asked_all:
        return None
    return any(fingerprint(asked) == content for asked in _asked(booked))


def _asked(booked: BookedTransfer) -> Iterator[Transfer]:
    transfer = booked.transfer
    ends = transfer.kind.ends_hold
    given: Collection[datetime | None] = (booked.effective_at.astimezone(UTC),)
    if booked.effective_at == booked.recorded_at:
        given = (None, *given)
    amount = None if transfer.asked_all else transfer.amount_minor
    for effective_at, debit, credit, code, currency in product(
        given,
        ("", transfer.debit_account_id) if ends else (transfer.debit_account_id,),
        ("", transfer.credit_account_id) if ends else (transfer.credit_account_id,),
        (0, transfer.code) if ends else (transfer.code,),
        ("", transfer.currency_code) if transfer.asked_all else (transfer.currency_code,),
    ):
        yield replace(
            transfer,
            effective_at=effective_at,
            debit_account_id=debit,
            credit_account_id=credit,
            code=code,
            currency_code=currency,
            amount_minor=amount,
        )


def _reversal_faults(
    transfer: Transfer, note: Note | None, reversed_: Mapping[UUID, Transfer]
) -> Iterator[Finding]:
    if transfer.reverses_id is None:
        return
    taken = Note(transfer.reverses_id, moved(transfer)) if moved(transfer) else None
    if note != taken:
        message = "what a reversal takes back is not noted as it is: that could be taken back again"
        yield Finding(
            Check.REVERSALS, message, str(taken), str(note), transfer_id=transfer.transfer_id
        )
    original = reversed_.get(transfer.reverses_id)
    if original is None or original.kind not in _POSTS:
        found = "none" if original is None else original.kind.name
        message = "a reversal names no transfer that posted"
        yield Finding(
            Check.REVERSALS, message, "a transfer", found, transfer_id=transfer.transfer_id
        )
        return
    wanted = _sides(opposite(original, ""))
    if wanted != _sides(transfer):
        message = "a reversal is not the opposite of what it reverses"
        yield Finding(
            Check.REVERSALS,
            message,
            str(wanted),
            str(_sides(transfer)),
            transfer_id=transfer.transfer_id,
        )


def _sides(transfer: Transfer) -> tuple[str, str, str, str, int]:
    return (
        str(transfer.transfer_id),
        transfer.debit_account_id,
        transfer.credit_account_id,
        transfer.currency_code,
        moved(transfer),
    )


@dataclass(frozen=True, slots=True)
class IdWithTransfer:
    """A transfer_id that was decided on, and whether a transfer of its time is in the books."""

    transfer_id: UUID
    result: int
    has_transfer: bool


def ids_faults(page: Iterable[IdWithTransfer]) -> Iterator[Finding]:
    """A transfer is in the books where its id says so, and nowhere else."""
    for each in page:
        is_posted = each.result == TransferResult.OK
        if is_posted != each.has_transfer:
            message = (
                "a transfer that was posted is gone" if is_posted else "a refused id has a transfer"
            )
            expected, found = ("a transfer", "none") if is_posted else ("none", "a transfer")
            yield Finding(
                Check.TRANSFER_IDS, message, expected, found, transfer_id=each.transfer_id
            )


# ---- Holds


@dataclass(frozen=True, slots=True)
class HoldEnds:
    """The transfers of one kind, with the same sides, that posted or voided a hold."""

    kind: Kind
    debit_account_id: str
    credit_account_id: str
    currency_code: str
    code: int
    count: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """A hold, the transfer that made it and when, and those that posted or voided it."""

    hold: Hold
    made: Transfer | None
    made_at: datetime | None
    ends: Sequence[HoldEnds]


def holds_faults(page: Iterable[HoldFacts]) -> Iterator[Finding]:
    """Judge holds."""
    for facts in page:
        for message, expected, found in (*_made_faults(facts), *_ended_faults(facts)):
            yield Finding(
                Check.HOLDS,
                message,
                str(expected),
                str(found),
                transfer_id=facts.hold.transfer_id,
            )


def _made_faults(facts: HoldFacts) -> Iterator[tuple[str, object, object]]:
    hold, made = facts.hold, facts.made
    if made is None or facts.made_at is None:
        yield "a hold without the transfer that made it", "a transfer", "none"
        return
    timeout = timedelta(milliseconds=made.timeout_ms)
    expires_at = facts.made_at + timeout if made.timeout_ms else None
    for what, expected, found in (
        ("kind", Kind.PENDING, made.kind),
        ("debit account", made.debit_account_id, hold.debit_account_id),
        ("credit account", made.credit_account_id, hold.credit_account_id),
        ("currency", made.currency_code, hold.currency_code),
        ("code", made.code, hold.code),
        ("amount", moved(made), hold.amount_minor),
        ("end", expires_at, hold.expires_at),
        ("closing of the debit account", made.flags.closing_debit, hold.closing_debit),
        ("closing of the credit account", made.flags.closing_credit, hold.closing_credit),
        ("multi_capture", made.flags.multi_capture, hold.multi_capture),
    ):
        if expected != found:
            yield f"the {what} of a hold is not that of the transfer that made it", expected, found


def _ended_faults(facts: HoldFacts) -> Iterator[tuple[str, object, object]]:
    hold = facts.hold
    posts, posted = _added(facts.ends, Kind.POST_PENDING)
    voids, voided = _added(facts.ends, Kind.VOID_PENDING)
    state = _state_of(hold, posts, posted, voids)
    if hold.state not in state:
        names = " or ".join(each.name for each in state)
        yield "the state of a hold does not follow from what ended it", names, hold.state.name
        return
    left = hold.amount_minor - posted if hold.state is HoldState.OPEN else 0
    if hold.remaining_minor != left:
        yield (
            "what is left of a hold is not its amount less what was posted",
            left,
            hold.remaining_minor,
        )
    if posted + voided > hold.amount_minor:
        yield "more was posted or voided than was held", hold.amount_minor, posted + voided
    if voids and voided != hold.amount_minor - posted:
        yield "another amount was voided than was left", hold.amount_minor - posted, voided
    if voids > 1 or (posts > 1 and not hold.multi_capture):
        yield "a hold was ended more than once", 1, posts + voids
    wanted = (hold.debit_account_id, hold.credit_account_id, hold.currency_code, hold.code)
    for end in facts.ends:
        sides = (end.debit_account_id, end.credit_account_id, end.currency_code, end.code)
        if sides != wanted:
            yield "what ended a hold has other sides than the hold", wanted, sides


def _state_of(hold: Hold, posts: int, posted: int, voids: int) -> tuple[HoldState, ...]:
    """Return how a hold may stand, by what ended it; nothing tells of one that was given up in time."""
    if voids:
        return (HoldState.VOIDED,)
    if posts and (not hold.multi_capture or posted >= hold.amount_minor):
        return (HoldState.POSTED,)
    return (HoldState.OPEN, HoldState.EXPIRED) if hold.expires_at else (HoldState.OPEN,)


def _added(ends: Iterable[HoldEnds], kind: Kind) -> tuple[int, int]:
    found = [end for end in ends if end.kind is kind]
    return sum(end.count for end in found), sum(end.amount_minor for end in found)
