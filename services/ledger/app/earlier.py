"""What the legs of a fact depend on: earlier postings, and transfers that stand for them."""

from __future__ import annotations

from collections.abc import Collection

from services.ledger.domain.recipes.evaluation import (
    Fact,
    Plan,
    Posted,
    bound,
    earlier_postings,
    earlier_transfers,
    evaluate,
)
from services.ledger.domain.recipes.postings import PostingView, transfers_of
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.store import posting as transfers_store
from services.ledger.store import postings as store
from services.runtime.database import UnitOfWork


async def planned(work: UnitOfWork, recipe: Recipe, fact: Fact) -> Plan:
    """Return what a recipe makes of a fact by what is in the books of those that it depends on.

    Raises:
        InvalidField: its parameters are not those that the recipe takes.
        RecipeRefused: an earlier leg that it depends on is not in the books.
    """
    values = bound(recipe, fact)
    ids = {each.posting_id(work.tenant_id) for each in earlier_postings(recipe, fact, values)}
    standing = sorted(set(earlier_transfers(recipe, fact, values)))
    found = await store.read_postings(work, ids) if ids else {}
    views = await transfers_store.read_views(work, standing) if standing else {}
    posted: Posted = {
        **{i: view.transfer for i, view in views.items()},
        **_legs(found.values()),
    }
    return evaluate(recipe, fact, values, posted)


def _legs(postings: Collection[PostingView]) -> Posted:
    return {
        key: transfer for posting in postings for key, transfer in transfers_of(posting).items()
    }
