"""What a verification says of a posting, by what was in the books before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ledger.domain.chain import Place
from services.ledger.domain.integrity_postings import Earlier, KeptPosting, compared, needs_of
from services.ledger.domain.integrity_reversals import Note
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.transfers import Transfer
from tests.support.ledger.posting_recipes import (
    REFERENCE,
    account,
    moving,
    parameter,
    recipe,
    usd,
)

TENANT = "t"
STANDING = Transfer(uuid4(), "a", "b", "USD", 9)
BACK = {"name": "back", "amount": "amount", "debit": "to", "credit": "from"}
BY_TRANSFER = recipe(
    moving(
        parameters=[parameter("amount", "AMOUNT"), parameter("by", "TEXT")],
        accounts=[account("to"), account("from")],
        legs=[{**BACK, "reverses": {"recipe": "hold", "leg": "held", "transfer": "{by}"}}],
    )
)


def kept(made_by: Recipe, debit: str, credit: str, place: Place, **values: Any) -> KeptPosting:
    """A posting of one leg, between these accounts."""
    transfer_id, posting_id = uuid4(), uuid4()
    made = Transfer(
        transfer_id, debit, credit, "USD", 4, code=0, reference=REFERENCE, posting_id=posting_id
    )
    return KeptPosting(
        posting_id=posting_id,
        recipe=made_by.name,
        version=1,
        reference=REFERENCE,
        parameters={"amount": usd(4), **values},
        effective_at=None,
        places=(("back", 0, transfer_id),),
        transfers={transfer_id: made},
        place=place,
    )


@pytest.mark.parametrize(("cut_at", "is_right"), [(512, True), (511, False)])
def test_metadata_that_an_earlier_release_cut_is_what_it_should_be(
    cut_at: int, is_right: bool
) -> None:
    made_by = recipe(
        moving(
            parameters=[parameter("amount", "AMOUNT"), parameter("note", "TEXT")],
            legs=[{**BACK, "metadata": {"note": "{reference.id}: {note}"}}],
        )
    )
    note = "x" * 512
    posting = kept(made_by, "to:USD", "from:USD", Place(2, 0), note=note)
    ((transfer_id, made),) = posting.transfers.items()
    cut = {transfer_id: replace(made, metadata={"note": f"o-1: {note}"[:cut_at]})}
    needs = needs_of(posting, made_by)
    found = compared(replace(posting, transfers=cut), made_by, needs, Earlier({}, {}), TENANT)
    assert (found == []) is is_right, found


@pytest.mark.parametrize(
    ("debit", "credit", "at", "noted_minor", "is_right"),
    [
        ("b", "a", 1, 4, True),
        # What it takes back could be taken back once more.
        ("b", "a", 1, 0, False),
        ("b", "a", 1, 3, False),
        # Its batch has the lower number, and was committed only when the posting had looked for it.
        ("to:USD", "from:USD", 1, 0, True),
        ("to:USD", "from:USD", 3, 0, True),
        ("to:USD", "from:USD", 3, 4, False),
        ("b", "a", 3, 4, False),
        ("to:USD", "a", 1, 0, False),
    ],
)
def test_a_transfer_that_stands_for_a_posting_may_have_been_unseen(
    debit: str, credit: str, at: int, noted_minor: int, is_right: bool
) -> None:
    standing: dict[UUID, tuple[Transfer, Place]] = {STANDING.transfer_id: (STANDING, Place(at, 0))}
    posting = kept(BY_TRANSFER, debit, credit, Place(2, 0), by=str(STANDING.transfer_id))
    if noted_minor:
        (transfer_id,) = posting.transfers
        posting = replace(posting, notes={transfer_id: Note(STANDING.transfer_id, noted_minor)})
    needs = needs_of(posting, BY_TRANSFER)
    assert needs.standing == {STANDING.transfer_id}
    found = compared(posting, BY_TRANSFER, needs, Earlier({}, standing), TENANT)
    assert (found == []) is is_right, found
