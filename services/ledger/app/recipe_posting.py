"""Posting what recipes make of facts: each once, whole or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.ledger.app.balances import load_timelines
from services.ledger.app.posting import post_transfers
from services.ledger.app.recipes import Recipes
from services.ledger.domain.accounts import Account
from services.ledger.domain.posting import Verdict
from services.ledger.domain.recipes.errors import (
    FactUnfit,
    PostingExists,
    RecipeNotFound,
    RecipeRefused,
)
from services.ledger.domain.recipes.evaluation import (
    EarlierPosting,
    Fact,
    Plan,
    bound,
    earlier_postings,
    earlier_transfers,
    evaluate,
)
from services.ledger.domain.recipes.judging import Judged, OpenBooks, judge, told
from services.ledger.domain.recipes.parameters import Values
from services.ledger.domain.recipes.postings import PostingView, posted, transfers_of
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.reversals import Taken
from services.ledger.domain.transfers import Transfer, TransferResult
from services.ledger.store import accounts as accounts_store
from services.ledger.store import monitors, periods, reversals
from services.ledger.store import posting as transfers_store
from services.ledger.store import postings as store
from services.runtime.database import UnitOfWork
from services.runtime.errors import BatchTooLarge, DomainError, InvalidField
from services.runtime.turns import aside, in_slices

# A posting passes over ids that somebody else has taken, and over accounts that somebody else makes, but not for ever.
TRIES_MAX = 100
TRANSFERS_MAX = 8190
IN_SUSPENSE = "ledger/payment-in-suspense"
# Between two looks at what else is to be done.
SLICE_ITEMS = 10

_IN_BOOKS = frozenset({TransferResult.OK, TransferResult.EXISTS})

Outcome = PostingView | DomainError
_Earlier = dict[tuple[EarlierPosting, str, int] | UUID, Transfer | None]


@dataclass(frozen=True, slots=True)
class _Item:
    """A fact that is to be posted, its recipe found and its parameters bound.

    Attributes:
        index: its place in the batch.
        earlier: the postings that it depends on.
        standing: transfers that stand for them where there are none.
    """

    index: int
    fact: Fact
    recipe: Recipe
    values: Values
    posting_id: UUID
    earlier: frozenset[EarlierPosting]
    standing: frozenset[UUID]


class RecipePoster:
    """Posts facts by recipes."""

    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    async def post_one(self, fact: Fact, work: UnitOfWork) -> PostingView:
        """Post a fact, or return the posting of it that is in the books.

        Raises:
            RecipeNotFound: there is no such recipe.
            FactUnfit: its parameters are not those that the recipe takes.
            PostingExists: it was posted with other content.
            RecipeRefused: an account does not take a leg; the caller must roll back.
        """
        (outcome,) = await self.post_all([fact], work)
        if isinstance(outcome, InvalidField):
            # Not the request's answer for ever: the recipe may change.
            raise FactUnfit.of(outcome.fields)
        if isinstance(outcome, DomainError):
            raise outcome
        return outcome

    async def post_all(
        self, facts: Sequence[Fact | DomainError], work: UnitOfWork
    ) -> list[Outcome]:
        """Post facts in their order, each by itself, and say what became of each. What is refused leaves nothing.

        Raises:
            BatchTooLarge: they make more transfers than a call may.
        """
        # Ahead of accounts and balances, as every batch does.
        closed_through = await periods.share(work)
        monitors.share(work)
        items, outcomes = await self._prepared(facts, work)
        earlier = {each for item in items for each in item.earlier}
        ids = {item.posting_id for item in items}
        ids |= {each.posting_id(work.tenant_id) for each in earlier}
        if ids:
            await store.lock_postings(work, ids)
        for segment in _segments(items, work.tenant_id):
            outcomes |= await _Segment(work, segment, closed_through, self._answer).post()
        return [outcomes[index] for index in range(len(facts))]

    async def _prepared(
        self, facts: Sequence[Fact | DomainError], work: UnitOfWork
    ) -> tuple[list[_Item], dict[int, Outcome]]:
        """Find the recipes and bind the parameters; what is refused already has its outcome."""
        asked = {(fact.recipe, fact.version) for fact in facts if isinstance(fact, Fact)}
        recipes = await self._recipes.find(work, asked)
        items: list[_Item] = []
        outcomes: dict[int, Outcome] = {}
        unfit: dict[int, Fact] = {}
        async for index, fact in in_slices(enumerate(facts), SLICE_ITEMS):
            try:
                if isinstance(fact, DomainError):
                    raise fact
                recipe = recipes.get((fact.recipe, fact.version))
                if recipe is None:
                    raise RecipeNotFound.of(fact.recipe, fact.version)
                items.append(await aside(fact.size, _item, index, fact, recipe, work.tenant_id))
            except DomainError as refusal:
                outcomes[index] = refusal
                if isinstance(fact, Fact) and not fact.version and (fact.recipe, 0) in recipes:
                    unfit[index] = fact
        return items, outcomes | await self._posted_before(unfit, work)

    async def _posted_before(
        self, facts: Mapping[int, Fact], work: UnitOfWork
    ) -> dict[int, Outcome]:
        """Answer facts that the newest version of a recipe does not take, but an earlier one has posted."""
        ids = {index: fact.posting_id(work.tenant_id) for index, fact in facts.items()}
        known = await store.read_postings(work, {*ids.values()}) if ids else {}
        outcomes: dict[int, Outcome] = {}
        for index, fact in facts.items():
            if (existing := known.get(ids[index])) is not None:
                try:
                    outcomes[index] = await self._answer(existing, fact, work)
                except PostingExists as refusal:
                    outcomes[index] = refusal
        return outcomes

    async def _answer(self, existing: PostingView, fact: Fact, work: UnitOfWork) -> PostingView:
        """Return the posting of a fact that is in the books, which may be of an older version of its recipe.

        Raises:
            PostingExists: it was posted with other content.
        """
        named = (existing.recipe, existing.version)
        recipe = (await self._recipes.find(work, [named]))[named]
        return await aside(fact.size, _as_posted, existing, recipe, fact)


def _item(index: int, fact: Fact, recipe: Recipe, tenant_id: str) -> _Item:
    values = bound(recipe, fact)
    earlier = frozenset(earlier_postings(recipe, fact, values))
    standing = frozenset(earlier_transfers(recipe, fact, values))
    return _Item(index, fact, recipe, values, fact.posting_id(tenant_id), earlier, standing)


def _segments(items: Iterable[_Item], tenant_id: str) -> Iterator[list[_Item]]:
    """Cut a batch before what needs to see what stands before it: the same posting, or one that depends on it.

    Before what others needed and did not find, too: theirs must be in the books first, however often it is tried.
    """
    segment: list[_Item] = []
    seen: set[UUID] = set()
    needed: set[UUID] = set()
    for item in items:
        needs = {item.posting_id} | {each.posting_id(tenant_id) for each in item.earlier}
        if needs & seen or item.posting_id in needed:
            yield segment
            segment, seen, needed = [], set(), set()
        segment.append(item)
        seen.add(item.posting_id)
        needed |= needs
    if segment:
        yield segment


class _Segment:
    """Facts that are posted together: one set of locks, one batch of transfers."""

    def __init__(
        self,
        work: UnitOfWork,
        items: Sequence[_Item],
        closed_through: Mapping[str, datetime],
        answer: Callable[[PostingView, Fact, UnitOfWork], Awaitable[PostingView]],
    ) -> None:
        self._work = work
        self._answer = answer
        self._items = items
        self._closed_through = closed_through
        self._outcomes: dict[int, Outcome] = {}

    async def post(self) -> dict[int, Outcome]:
        """Post them, and return what became of each by its index."""
        known = await self._known()
        standing = await self._standing()
        plans: dict[int, Plan] = {}
        async for item in in_slices(self._items, SLICE_ITEMS):
            existing = known.get(item.posting_id)
            try:
                if existing is not None:
                    self._outcomes[item.index] = await self._answered(existing, item)
                else:
                    earlier = standing | self._earlier(item, known)
                    plans[item.index] = await aside(
                        item.fact.size, evaluate, item.recipe, item.fact, item.values, earlier
                    )
            except DomainError as refusal:
                self._outcomes[item.index] = refusal
        _check_size(plans.values())
        await self._post(plans)
        return self._outcomes

    async def _answered(self, existing: PostingView, item: _Item) -> PostingView:
        if existing.version != item.recipe.version and not item.fact.version:
            return await self._answer(existing, item.fact, self._work)
        if not existing.is_of(item.fact, item.values):
            raise PostingExists.of(item.recipe.name, item.fact.reference, existing.posting_id)
        return existing

    async def _known(self) -> dict[UUID, PostingView]:
        tenant_id = self._work.tenant_id
        earlier = {each.posting_id(tenant_id) for item in self._items for each in item.earlier}
        return await store.read_postings(
            self._work, {item.posting_id for item in self._items} | earlier
        )

    async def _standing(self) -> _Earlier:
        """Read the transfers that stand for earlier postings."""
        wanted = {transfer_id for item in self._items for transfer_id in item.standing}
        views = await transfers_store.read_views(self._work, sorted(wanted)) if wanted else {}
        return {transfer_id: view.transfer for transfer_id, view in views.items()}

    def _earlier(self, item: _Item, known: dict[UUID, PostingView]) -> _Earlier:
        found = (known.get(each.posting_id(self._work.tenant_id)) for each in item.earlier)
        return {
            key: transfer
            for posting in found
            if posting is not None
            for key, transfer in transfers_of(posting).items()
        }

    async def _post(self, plans: dict[int, Plan]) -> None:
        """Judge plans in memory, create the accounts of those that are accepted, and post them."""
        round_no = 0
        for _ in range(TRIES_MAX):
            if not plans:
                return
            judged = await self._judged(plans, round_no)
            if not await self._create(judged):
                # Others have made one of them meanwhile, perhaps not as it was thought to be.
                continue
            plans = await self._booked(judged)
            round_no += 1
        for index, plan in plans.items():
            leg = plan.recipe.legs[0].name
            self._outcomes[index] = RecipeRefused.of(plan.recipe.name, leg, "", "IDS_TAKEN")

    async def _judged(self, plans: dict[int, Plan], round_no: int) -> dict[int, Judged]:
        books = await self._open(plans.values())
        judged: dict[int, Judged] = {}
        async for index, plan in in_slices(sorted(plans.items()), SLICE_ITEMS):
            try:
                judged[index] = await aside(len(plan.moves), judge, plan, books, round_no)
            except RecipeRefused as refusal:
                self._outcomes[index] = refusal
        return judged

    async def _open(self, plans: Collection[Plan]) -> OpenBooks:
        """Lock what the plans reverse, then the holds and then the balances that they may move."""
        work = self._work
        reversed_ids = {transfer_id for plan in plans for transfer_id in plan.reverses}
        taken = await reversals.lock(work, reversed_ids) if reversed_ids else Taken()
        accounts: set[str] = set()
        pending: set[UUID] = set()
        for plan in plans:
            accounts.update(account.account_id for account in plan.accounts)
            pending.update(move.pending_id for move in plan.moves if move.pending_id)
        holds = await transfers_store.lock_holds(work, pending) if pending else {}
        for hold in holds.values():
            accounts |= {hold.debit_account_id, hold.credit_account_id}
        balances = await transfers_store.lock_balances(work, accounts)
        await load_timelines(work, balances.values(), (plan.fact.effective_at for plan in plans))
        return OpenBooks(balances, holds, work.tenant_id, work.now, self._closed_through, taken)

    async def _create(self, judged: dict[int, Judged]) -> bool:
        """Create the accounts that are missing; False when somebody else has made one of them."""
        missing: dict[str, Account] = {
            account.account_id: account for item in judged.values() for account in item.missing
        }
        if not missing:
            return True
        created = await accounts_store.insert_accounts(self._work, list(missing.values()))
        return created == missing.keys()

    async def _booked(self, judged: dict[int, Judged]) -> dict[int, Plan]:
        """Post what was accepted; returns the plans whose transfers' ids belong to others."""
        batch = [made.asked for item in judged.values() for made in item.made]
        verdicts = (await post_transfers(batch, self._work)).verdicts if batch else []
        left = iter(verdicts)
        taken: dict[int, Plan] = {}
        for index, item in judged.items():
            if all([_is_in_books(next(left)) for _ in item.made]):
                self._record(index, item)
            else:
                # The balances are locked, so only the ids can be what was refused.
                taken[index] = item.plan
        return taken

    def _record(self, index: int, item: Judged) -> None:
        posting = posted(item, self._work.now)
        store.insert_posting(self._work, posting)
        for made in item.made:
            if made.reverses is not None:
                reversals.insert(
                    self._work,
                    made.reverses.transfer_id,
                    made.asked.transfer_id,
                    made.reverses.amount_minor,
                )
        self._outcomes[index] = posting
        if item.suspended:
            reference = item.plan.fact.reference
            message = f"{reference}: of {posting.recipe}, {told(item.suspended)}"
            self._work.violation(IN_SUSPENSE, "HIGH", message, subject_id=reference.id)


def _as_posted(existing: PostingView, recipe: Recipe, fact: Fact) -> PostingView:
    """Return a posting that is in the books, if the fact is the one that the recipe posted. Raises PostingExists."""
    try:
        is_of = existing.is_of(fact, bound(recipe, fact))
    except DomainError:
        is_of = False
    if not is_of:
        raise PostingExists.of(recipe.name, fact.reference, existing.posting_id)
    return existing


def _is_in_books(verdict: Verdict) -> bool:
    return verdict.result in _IN_BOOKS


def _check_size(plans: Iterable[Plan]) -> None:
    transfers = sum(max(1, len(move.tenders)) for plan in plans for move in plan.moves)
    if transfers > TRANSFERS_MAX:
        raise BatchTooLarge(
            f"the facts make {transfers} transfers; one call makes {TRANSFERS_MAX} at most: post them in several calls",
            items=transfers,
            items_max=TRANSFERS_MAX,
        )
