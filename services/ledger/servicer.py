"""LedgerService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar
from uuid import UUID

import grpc
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import ledger_service_pb2_grpc

from services.ledger.app.ledger import Ledger
from services.ledger.app.posting import reverse_transfer
from services.ledger.app.recipe_posting import RecipePoster
from services.ledger.app.recipes import Recipes
from services.ledger.domain.accounts import EntryPlace
from services.ledger.domain.reads import Looked, TransferPlace
from services.ledger.domain.reversals import Reversal
from services.ledger.domain.transfers import Malformed
from services.ledger.messages import books as messages
from services.ledger.messages import postings as posting_messages
from services.ledger.messages import reads
from services.ledger.messages import recipes as recipe_messages
from services.runtime.commands import Commands, UseCase
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.database import Database
from services.runtime.edge import validation
from services.runtime.edge.paging import Page
from services.runtime.errors import InvalidField
from services.runtime.turns import aside, in_slices
from services.runtime.violations import ViolationReporter

SERVICE = "payments.ledger.v1.LedgerService"
BATCH_ITEMS_MAX = 8190
EXPORT_ITEMS = 5000
POSTINGS_MAX = 1000
RECIPES_MAX = 200

_REVERSE = UseCase(
    "ledger.reverse_transfer",
    reverse_transfer,
    messages.reversed_,
    service_pb.ReverseTransferResponse,
)

_Context = grpc.aio.ServicerContext[Any, Any]
PlaceT = TypeVar("PlaceT")
# Between two looks at what else is to be done.
SLICE_ITEMS = 100


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Answers the RPCs of LedgerService."""

    def __init__(
        self,
        ledger: Ledger,
        recipes: Recipes,
        database: Database,
        commands: Commands,
        violations: ViolationReporter,
    ) -> None:
        self._ledger = ledger
        self._recipes = recipes
        self._database = database
        self._commands = commands
        self._violations = violations
        self._poster = RecipePoster(recipes)
        self._post_recipe = UseCase(
            "ledger.post_recipe",
            self._poster.post_one,
            posting_messages.posted,
            service_pb.PostRecipeResponse,
        )
        self._put_recipe = UseCase(
            "ledger.put_recipe", recipes.put, recipe_messages.put, service_pb.PutRecipeResponse
        )

    async def CreateAccounts(
        self, request: service_pb.CreateAccountsRequest, context: _Context
    ) -> service_pb.CreateAccountsResponse:
        """Create accounts, each judged by itself."""
        validation.check_batch(request.accounts, BATCH_ITEMS_MAX)
        numbered = in_slices(enumerate(request.accounts), SLICE_ITEMS)
        unreadable = dict(request.unreadable)
        results = [
            messages.refused_account(index, item, unreadable.get(index, ""))
            async for index, item in numbered
        ]
        sound = [index for index, refused in enumerate(results) if refused is None]
        self._tell_refused("CreateAccounts", [item.message for item in results if item])
        accounts = [
            messages.account_of(request.accounts[index])
            async for index in in_slices(sound, SLICE_ITEMS)
        ]
        verdicts = await self._ledger.create_accounts(accounts) if accounts else []
        judged = in_slices(zip(sound, accounts, verdicts, strict=True), SLICE_ITEMS)
        async for index, account, verdict in judged:
            results[index] = messages.account_result(index, account.account_id, verdict)
        return service_pb.CreateAccountsResponse(results=[item for item in results if item])

    async def PostTransfers(
        self, request: service_pb.PostTransfersRequest, context: _Context
    ) -> service_pb.PostTransfersResponse:
        """Post transfers, each judged by itself."""
        validation.check_batch(request.transfers, BATCH_ITEMS_MAX)
        numbered = in_slices(enumerate(request.transfers), SLICE_ITEMS)
        unreadable = dict(request.unreadable)
        batch = [
            messages.transfer_of(item, unreadable.get(index, "")) async for index, item in numbered
        ]
        faults = [item.message for item in batch if isinstance(item, Malformed)]
        self._tell_refused("PostTransfers", faults)
        verdicts = await self._ledger.post_transfers(batch)
        judged = in_slices(zip(request.transfers, batch, verdicts, strict=True), SLICE_ITEMS)
        response = service_pb.PostTransfersResponse()
        async for asked, item, verdict in judged:
            index = len(response.results)
            response.results.append(
                messages.transfer_result(index, asked.transfer_id, item, verdict)
            )
        return response

    async def GetAccount(
        self, request: service_pb.GetAccountRequest, context: _Context
    ) -> service_pb.GetAccountResponse:
        """Return one account."""
        view = await self._ledger.get_account(request.account_id)
        return service_pb.GetAccountResponse(account=messages.account(view))

    async def ReverseTransfer(
        self, request: service_pb.ReverseTransferRequest, context: _Context
    ) -> service_pb.ReverseTransferResponse:
        """Post the opposite of a transfer, once."""
        reversal = Reversal(UUID(request.transfer_id), request.reason)
        return await self._commands.run(_REVERSE, reversal, request)

    async def PostRecipe(
        self, request: service_pb.PostRecipeRequest, context: _Context
    ) -> service_pb.PostRecipeResponse:
        """Post what a recipe makes of a fact, once."""
        groups = sum(len(value.list.groups) for value in request.parameters.values())
        fact = await aside(groups, posting_messages.fact_of, request)
        return await self._commands.run(self._post_recipe, fact, request)

    async def PostRecipes(
        self, request: service_pb.PostRecipesRequest, context: _Context
    ) -> service_pb.PostRecipesResponse:
        """Post what recipes make of many facts, each judged by itself."""
        validation.check_batch(request.postings, POSTINGS_MAX)
        facts = [
            posting_messages.judged_fact_of(item)
            async for item in in_slices(request.postings, SLICE_ITEMS)
        ]
        faults = [item.message for item in facts if isinstance(item, InvalidField)]
        self._tell_refused("PostRecipes", faults)
        outcomes = await self._commands.apply("ledger.post_recipes", self._poster.post_all, facts)
        response = service_pb.PostRecipesResponse()
        async for index, outcome in in_slices(enumerate(outcomes), SLICE_ITEMS):
            response.results.append(posting_messages.result(index, outcome))
        return response

    async def PutRecipe(
        self, request: service_pb.PutRecipeRequest, context: _Context
    ) -> service_pb.PutRecipeResponse:
        """Store a recipe as the next version of its name."""
        if odd := recipe_messages.odd_timeouts(request.recipe):
            raise InvalidField.of(odd)
        recipe = recipe_messages.recipe_of(request.recipe)
        return await self._commands.run(self._put_recipe, recipe, request)

    async def GetRecipe(
        self, request: service_pb.GetRecipeRequest, context: _Context
    ) -> service_pb.GetRecipeResponse:
        """Return one recipe."""
        found = await self._recipes.get(self._database, request.name, request.version)
        return service_pb.GetRecipeResponse(recipe=recipe_messages.recipe(found))

    async def ListRecipes(
        self, request: service_pb.ListRecipesRequest, context: _Context
    ) -> service_pb.ListRecipesResponse:
        """List the newest versions of all recipes by name."""
        page = Page.of(request, "recipes", {"name": str}, maximum=RECIPES_MAX)
        found = await self._recipes.list(self._database, page.after.get("name", ""), page.limit)
        shown, token = page.cut(found, lambda recipe: {"name": recipe.name})
        return service_pb.ListRecipesResponse(
            recipes=recipe_messages.recipes(shown), next_page_token=token
        )

    async def GetTransfer(
        self, request: service_pb.GetTransferRequest, context: _Context
    ) -> service_pb.GetTransferResponse:
        """Return one transfer."""
        view = await self._ledger.get_transfer(UUID(request.transfer_id))
        return service_pb.GetTransferResponse(transfer=messages.recorded_transfer(view))

    async def ListTransfers(
        self, request: service_pb.ListTransfersRequest, context: _Context
    ) -> service_pb.ListTransfersResponse:
        """List transfers by reference or by time."""
        wanted = reads.transfers_wanted(request)
        page = Page.of(request, reads.scope("transfers", request), reads.TRANSFER_PLACE)
        after = TransferPlace(**page.after) if page.after else None
        found = await self._ledger.list_transfers(wanted, after, page.size)
        return service_pb.ListTransfersResponse(
            transfers=map(messages.recorded_transfer, found.items),
            next_page_token=_token(page, found, reads.transfer_place),
        )

    async def ListAccounts(
        self, request: service_pb.ListAccountsRequest, context: _Context
    ) -> service_pb.ListAccountsResponse:
        """List accounts by id."""
        wanted = reads.accounts_wanted(request)
        page = Page.of(request, reads.scope("accounts", request), {"account_id": str})
        found = await self._ledger.list_accounts(
            wanted, page.after.get("account_id", ""), page.size
        )
        return service_pb.ListAccountsResponse(
            accounts=map(messages.account, found.items),
            next_page_token=_token(page, found, lambda account_id: {"account_id": account_id}),
        )

    async def ListEntries(
        self, request: service_pb.ListEntriesRequest, context: _Context
    ) -> service_pb.ListEntriesResponse:
        """List entries by account and seq."""
        wanted = reads.entries_wanted(request)
        page = Page.of(request, reads.scope("entries", request), reads.ENTRY_PLACE)
        after = EntryPlace(**page.after) if page.after else None
        found = await self._ledger.list_entries(wanted, after, page.size)
        return reads.entries(found, _token(page, found, reads.entry_place))

    async def GetStatement(
        self, request: service_pb.GetStatementRequest, context: _Context
    ) -> service_pb.GetStatementResponse:
        """Make a statement, or go on with one."""
        wanted = reads.statement_wanted(request)
        page = Page.of(request, reads.scope("statement", request), reads.STATEMENT_PLACE)
        if page.after:
            head = await self._ledger.statement_head(wanted.account_id)
            statement, after = reads.statement_of(wanted, head, page.after)
            found = await self._ledger.statement_lines(statement, after, page.size)
        else:
            statement, found = await self._ledger.statement(wanted, page.size)
        token = _token(page, found, lambda place: reads.statement_place(statement, place))
        return reads.statement(statement, found, token)

    async def ExportEntries(
        self, request: service_pb.ExportEntriesRequest, context: _Context
    ) -> service_pb.ExportEntriesResponse:
        """Read the entries of many accounts by column."""
        wanted = messages.entry_filter(request)
        named = ",".join(wanted.account_ids)
        scope = f"export|{named}|{wanted.owner}|{wanted.recorded_from}|{wanted.recorded_before}"
        kinds = {"account_id": str, "seq": int}
        page = Page.of(request, scope, kinds, default=EXPORT_ITEMS, maximum=EXPORT_ITEMS)
        after = EntryPlace(**page.after)
        found, place = await self._ledger.export_entries(wanted, after, page.size)
        return service_pb.ExportEntriesResponse(
            entries=messages.entry_columns(found),
            next_page_token=page.token([place], asdict, more=True) if place else "",
        )

    async def GetTrialBalance(
        self, request: service_pb.GetTrialBalanceRequest, context: _Context
    ) -> service_pb.GetTrialBalanceResponse:
        """Add all accounts up."""
        recorded_at, currencies = await self._ledger.trial_balance()
        balance = pb.TrialBalance(currencies=map(messages.currency_sums, currencies))
        balance.recorded_at.FromDatetime(recorded_at)
        return service_pb.GetTrialBalanceResponse(trial_balance=balance)

    def _tell_refused(self, method: str, faults: Sequence[str]) -> None:
        """Tell the contract monitor of items that break their rules, once a call."""
        if faults:
            message = f"{method}: {len(faults)} items break their rules, the first: {faults[0]}"
            self._violations.tell(REQUEST_VALIDATION, "LOW", message, f"/{SERVICE}/{method}")


def _token(
    page: Page,
    found: Looked[Any, PlaceT],
    write: Callable[[PlaceT], Mapping[str, str | int]],
) -> str:
    """Return the token of the page behind; empty when there is none."""
    return "" if found.place is None else page.token([found.place], write, more=True)
