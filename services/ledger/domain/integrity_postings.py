"""Checks of postings: what is in the books is what their recipes make of their facts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.ledger.domain.findings import Check, Finding
from services.ledger.domain.recipes.evaluation import Fact, Move, Plan
from services.ledger.domain.recipes.parameters import Values
from services.ledger.domain.transfers import Reference, Transfer, moved


@dataclass(frozen=True, slots=True)
class KeptPosting:
    """A posting as it is kept, with those of its transfers that there are.

    Attributes:
        places: leg, group and transfer of each, in the order of posting.
    """

    posting_id: UUID
    recipe: str
    version: int
    reference: Reference
    parameters: Values
    effective_at: datetime | None
    places: tuple[tuple[str, int, UUID], ...]
    transfers: Mapping[UUID, Transfer]

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
        for name, expected, is_so in _of_leg(move, transfer):
            if not is_so:
                message = f"leg {move.leg.name} has another {name} than its recipe says"
                yield _finding(posting, message, transfer.transfer_id, expected)


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
