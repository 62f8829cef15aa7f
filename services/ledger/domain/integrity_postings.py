"""Checks of postings: what is in the books is what their recipes make of their facts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.ledger.domain.chain import Place
from services.ledger.domain.findings import Check, Finding
from services.ledger.domain.integrity_reversals import Note
from services.ledger.domain.recipes.evaluation import (
    EarlierPosting,
    Fact,
    Move,
    Plan,
    Posted,
    bound,
    earlier_postings,
    earlier_transfers,
    evaluate,
)
from services.ledger.domain.recipes.parameters import Values
from services.ledger.domain.recipes.postings import by_leg
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.transfers import Reference, Transfer, moved
from services.runtime.errors import DomainError


@dataclass(frozen=True, slots=True)
class KeptPosting:
    """A posting as it is kept, with those of its transfers that there are.

    Attributes:
        places: leg, group and transfer of each, in the order of posting.
        place: of the first of its transfers that there is; None for none.
        notes: what its transfers are noted to take back.
    """

    posting_id: UUID
    recipe: str
    version: int
    reference: Reference
    parameters: Values
    effective_at: datetime | None
    places: tuple[tuple[str, int, UUID], ...]
    transfers: Mapping[UUID, Transfer]
    place: Place | None = None
    notes: Mapping[UUID, Note] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many transfers it has: what it takes to judge it grows with that."""
        return len(self.places)

    @property
    def fact(self) -> Fact:
        """What was posted."""
        return Fact(self.recipe, self.version, self.parameters, self.reference, self.effective_at)


@dataclass(frozen=True, slots=True)
class NamedTransfer:
    """A transfer that says it is of a posting, and whether that posting names it."""

    transfer_id: UUID
    posting_id: UUID
    is_named: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What the legs of a posting depend on.

    Attributes:
        values: its parameters.
        earlier: postings.
        standing: transfers that stand for such postings where there are none.
    """

    values: Values
    earlier: frozenset[EarlierPosting] = frozenset()
    standing: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is in the books of that on which postings depend, whenever it came.

    Attributes:
        postings: by id.
        standing: transfers, each with its place.
    """

    postings: Mapping[UUID, KeptPosting]
    standing: Mapping[UUID, tuple[Transfer, Place]]

    def before(self, posting: KeptPosting, needs: Needs, tenant_id: str) -> Posted:
        """Return what a posting found when it was posted. What has come since was nothing to it."""
        found: dict[tuple[EarlierPosting, str, int] | UUID, Transfer | None] = {}
        for transfer_id in needs.standing & self.standing.keys():
            transfer, place = self.standing[transfer_id]
            if _is_before(place, posting):
                found[transfer_id] = transfer
        for each in needs.earlier:
            kept = self.postings.get(each.posting_id(tenant_id))
            if kept is not None and _is_before(kept.place, posting):
                made = (
                    (leg, group, kept.transfers[transfer_id])
                    for leg, group, transfer_id in kept.places
                    if transfer_id in kept.transfers
                )
                found |= by_leg(each, made)
        return found


def _is_before(place: Place | None, posting: KeptPosting) -> bool:
    """True unless it came behind the posting; batches of those that depend on each other are numbered in order."""
    return place is None or posting.place is None or place < posting.place


def needs_of(posting: KeptPosting, recipe: Recipe) -> Needs:
    """Say what a posting depends on. Raises InvalidField: its parameters are not those that the recipe takes."""
    fact = posting.fact
    values = bound(recipe, fact)
    return Needs(
        values,
        frozenset(earlier_postings(recipe, fact, values)),
        frozenset(earlier_transfers(recipe, fact, values)),
    )


def compared(
    posting: KeptPosting, recipe: Recipe, needs: Needs, earlier: Earlier, tenant_id: str
) -> list[Finding]:
    """Compare a posting with what its recipe made of its fact by what was in the books before it."""
    found = earlier.before(posting, needs, tenant_id)
    findings = _by_plan(posting, recipe, needs, found)
    if findings and needs.standing & found.keys():
        # Nobody locks such a transfer: one whose batch has the lower number may not have been committed yet.
        unseen = {key: transfer for key, transfer in found.items() if key not in needs.standing}
        if not _by_plan(posting, recipe, needs, unseen):
            return []
    return findings


def _by_plan(posting: KeptPosting, recipe: Recipe, needs: Needs, posted: Posted) -> list[Finding]:
    try:
        plan = evaluate(recipe, posting.fact, needs.values, posted, cuts=True)
    except DomainError as error:
        return [unplanned(posting, str(error))]
    return [*posting_faults(posting, plan)]


def stray_faults(transfers: list[NamedTransfer]) -> Iterator[Finding]:
    """Find transfers that say they are of a posting which does not name them."""
    for each in transfers:
        if not each.is_named:
            message = (
                f"the posting {each.posting_id} that the transfer says it is of does not name it"
            )
            yield Finding(Check.POSTINGS, message, transfer_id=each.transfer_id)


def unplanned(posting: KeptPosting, why: str) -> Finding:
    """Say that nobody can tell what a posting should be."""
    return _finding(posting, f"what its recipe makes of it cannot be told: {why}")


def posting_faults(posting: KeptPosting, plan: Plan) -> Iterator[Finding]:
    """Compare a posting with what its recipe makes of its fact: legs, amounts, accounts, codes, references."""
    found: dict[tuple[str, int], list[Transfer]] = defaultdict(list)
    for leg, group, transfer_id in posting.places:
        transfer = posting.transfers.get(transfer_id)
        if transfer is None:
            yield _finding(posting, f"its transfer of leg {leg} is not in the books", transfer_id)
            continue
        found[leg, group].append(transfer)
        if (transfer.posting_id, transfer.reference) != (posting.posting_id, posting.reference):
            yield _finding(posting, f"its transfer of leg {leg} names another one", transfer_id)
    planned = {(move.leg.name, move.group): move for move in plan.moves}
    for key in planned.keys() ^ {(leg, group) for leg, group, _ in posting.places}:
        state = "is missing" if key in planned else "is not of its recipe"
        yield _finding(posting, f"leg {key[0]} of group {key[1]} {state}")
    for key in planned.keys() & found.keys():
        yield from _leg_faults(posting, planned[key], found[key])


def _leg_faults(posting: KeptPosting, move: Move, made: list[Transfer]) -> Iterator[Finding]:
    if move.amount is not None:
        total = sum(moved(transfer) for transfer in made)
        currencies = {transfer.currency_code for transfer in made}
        if total != move.amount.minor_units or currencies != {move.amount.currency_code}:
            yield _finding(
                posting,
                f"leg {move.leg.name} moved another amount than its recipe says",
                made[0].transfer_id,
                str(move.amount),
                f"{total} minor units of {', '.join(sorted(currencies))}",
            )
    for transfer in made:
        yield from _note_faults(posting, move, transfer)
        for name, expected, is_so in _of_leg(move, transfer):
            if not is_so:
                message = f"leg {move.leg.name} has another {name} than its recipe says"
                yield _finding(posting, message, transfer.transfer_id, expected)


def _note_faults(posting: KeptPosting, move: Move, transfer: Transfer) -> Iterator[Finding]:
    """What a leg takes back is noted. Where it was more than was left, it stands in suspense and took nothing."""
    note = posting.notes.get(transfer.transfer_id)
    reverses = move.reverses
    taken = Note(reverses.transfer_id, reverses.amount_minor) if reverses is not None else None
    sides = {transfer.debit_account_id, transfer.credit_account_id}
    is_its_own = sides == {each[0].account_id for each in (move.debits, move.credits) if each}
    if note != taken and (note is not None or is_its_own):
        message = f"what leg {move.leg.name} takes back is not noted as its recipe says"
        yield _finding(posting, message, transfer.transfer_id, str(taken), str(note))


def _of_leg(move: Move, transfer: Transfer) -> Iterator[tuple[str, str, bool]]:
    yield "kind", move.leg.kind.name, transfer.kind is move.leg.kind
    yield "metadata", str(dict(move.metadata)), dict(transfer.metadata) == dict(move.metadata)
    if move.leg.kind.ends_hold:
        return
    yield "code", str(move.leg.code), transfer.code == move.leg.code
    sources = tuple(account for tender in move.tenders for account in tender.accounts)
    for side, accounts, account_id in (
        ("debit account", move.debits or sources, transfer.debit_account_id),
        ("credit account", move.credits or sources, transfer.credit_account_id),
    ):
        names = [account.account_id for account in accounts]
        yield side, " or ".join(names), account_id in names


def _finding(
    posting: KeptPosting,
    message: str,
    transfer_id: UUID | None = None,
    expected: str = "",
    found: str = "",
) -> Finding:
    what = f"posting {posting.posting_id} of {posting.recipe} {posting.version} for {posting.reference}"
    return Finding(Check.POSTINGS, f"{what}: {message}", expected, found, transfer_id=transfer_id)
