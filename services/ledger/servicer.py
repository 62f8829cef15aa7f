"""LedgerService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import grpc
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import ledger_service_pb2_grpc, monitor_pb2, scheduled_pb2

from services.ledger.app.chain import Chain
from services.ledger.app.integrity import Asked, Integrity
from services.ledger.app.ledger import Ledger
from services.ledger.app.monitors import delete_monitor, put_monitor
from services.ledger.app.periods import close_period, reopen_period
from services.ledger.app.posting import reverse_transfer
from services.ledger.app.recipe_posting import RecipePoster
from services.ledger.app.recipes import Recipes
from services.ledger.app.scheduled import cancel_scheduled
from services.ledger.domain.accounts import EntryPlace
from services.ledger.domain.findings import Check
from services.ledger.domain.reads import Looked, TransferPlace
from services.ledger.domain.reversals import Reversal
from services.ledger.domain.scheduled import Cancellation, ScheduledView, ScheduleState
from services.ledger.domain.transfers import SHARED_ITEMS_MAX, Malformed
from services.ledger.messages import books as messages
from services.ledger.messages import monitors as monitor_messages
from services.ledger.messages import plain as plain_messages
from services.ledger.messages import postings as posting_messages
from services.ledger.messages import reads
from services.ledger.messages import recipes as recipe_messages
from services.ledger.messages import scheduled as scheduled_messages
from services.ledger.messages.plain import BATCH_ITEMS_MAX
from services.runtime.cards import remark
from services.runtime.commands import Commands, UseCase
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.database import Database
from services.runtime.edge import validation
from services.runtime.edge.paging import Page, fitting
from services.runtime.edge.streams import stream_begun
from services.runtime.errors import InvalidField
from services.runtime.money import MINOR_UNITS_MAX
from services.runtime.turns import aside, in_slices
from services.runtime.violations import ViolationReporter

SERVICE = "payments.ledger.v1.LedgerService"
EXPORT_ITEMS = 5000
POSTINGS_MAX = 1000
RECIPES_MAX = 200

_REVERSE = UseCase(
    "ledger.reverse_transfer",
    reverse_transfer,
    messages.reversed_,
    service_pb.ReverseTransferResponse,
)

_CANCEL = UseCase(
    "ledger.cancel_scheduled_transfer",
    cancel_scheduled,
    scheduled_messages.cancelled,
    scheduled_pb2.CancelScheduledTransferResponse,
)
_PUT_MONITOR = UseCase(
    "ledger.put_balance_monitor",
    put_monitor,
    monitor_messages.put,
    monitor_pb2.PutBalanceMonitorResponse,
)
_DELETE_MONITOR = UseCase(
    "ledger.delete_balance_monitor",
    delete_monitor,
    monitor_messages.deleted,
    monitor_pb2.DeleteBalanceMonitorResponse,
)
_CLOSE = UseCase(
    "ledger.close_period", close_period, messages.closed, service_pb.ClosePeriodResponse
)
_REOPEN = UseCase(
    "ledger.reopen_period",
    reopen_period,
    messages.reopened,
    service_pb.ReopenPeriodResponse,
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
        chain: Chain,
        integrity: Integrity,
        commands: Commands,
        violations: ViolationReporter,
    ) -> None:
        self._ledger = ledger
        self._recipes = recipes
        self._database = database
        self._chain = chain
        self._integrity = integrity
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
        validation.check_batch(request.accounts, BATCH_ITEMS_MAX, field="accounts")
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
        validation.check_batch(request.transfers, BATCH_ITEMS_MAX, field="transfers")
        plain = None
        if len(request.transfers) > SHARED_ITEMS_MAX:
            plain = await plain_messages.plain_batch_of(request)
        if plain is not None:
            return await plain_messages.results(plain, await self._ledger.post_plain(plain))
        return await self._post_transfers(request)

    async def _post_transfers(
        self, request: service_pb.PostTransfersRequest
    ) -> service_pb.PostTransfersResponse:
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
        reversal = Reversal(UUID(request.transfer_id), remark(request.reason))
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
        validation.check_batch(request.postings, POSTINGS_MAX, field="postings")
        unreadable = dict(request.unreadable)
        numbered = in_slices(enumerate(request.postings), SLICE_ITEMS)
        facts = [
            posting_messages.judged_fact_of(item, unreadable.get(index, ""))
            async for index, item in numbered
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
        recipes, token = await page.cut(
            found, recipe_messages.recipe, lambda recipe: {"name": recipe.name}
        )
        return service_pb.ListRecipesResponse(recipes=recipes, next_page_token=token)

    async def GetTransfer(
        self, request: service_pb.GetTransferRequest, context: _Context
    ) -> service_pb.GetTransferResponse:
        """Return one transfer."""
        found = await self._ledger.get_transfer(UUID(request.transfer_id))
        return scheduled_messages.found_transfer(*found)

    async def CancelScheduledTransfer(
        self, request: scheduled_pb2.CancelScheduledTransferRequest, context: _Context
    ) -> scheduled_pb2.CancelScheduledTransferResponse:
        """Take a scheduled transfer back."""
        command = Cancellation(UUID(request.transfer_id), remark(request.reason))
        return await self._commands.run(_CANCEL, command, request)

    async def ListScheduledTransfers(
        self, request: scheduled_pb2.ListScheduledTransfersRequest, context: _Context
    ) -> scheduled_pb2.ListScheduledTransfersResponse:
        """List scheduled transfers by when they are due."""
        state = ScheduleState(request.state or ScheduleState.WAITING)
        kinds = {"not_before": datetime, "transfer_id": UUID}
        page = Page.of(request, f"scheduled|{state:d}", kinds)
        after = (page.after["not_before"], page.after["transfer_id"]) if page.after else None
        found = await self._ledger.list_scheduled(state, after, page.limit)
        scheduled, token = await page.cut(
            found, scheduled_messages.scheduled_transfer, _place_of_scheduled
        )
        return scheduled_pb2.ListScheduledTransfersResponse(
            scheduled_transfers=scheduled, next_page_token=token
        )

    async def PutBalanceMonitor(
        self, request: monitor_pb2.PutBalanceMonitorRequest, context: _Context
    ) -> monitor_pb2.PutBalanceMonitorResponse:
        """Put a monitor."""
        return await self._commands.run(
            _PUT_MONITOR, monitor_messages.monitor_of(request.monitor), request
        )

    async def ListBalanceMonitors(
        self, request: monitor_pb2.ListBalanceMonitorsRequest, context: _Context
    ) -> monitor_pb2.ListBalanceMonitorsResponse:
        """List monitors by id."""
        page = Page.of(request, f"monitors|{request.account_id}", {"monitor_id": str})
        after = page.after.get("monitor_id", "")
        found = await self._ledger.list_monitors(request.account_id, after, page.limit)
        shown, token = await page.cut(
            found,
            monitor_messages.monitor,
            lambda view: {"monitor_id": view.monitor.monitor_id},
        )
        return monitor_pb2.ListBalanceMonitorsResponse(monitors=shown, next_page_token=token)

    async def DeleteBalanceMonitor(
        self, request: monitor_pb2.DeleteBalanceMonitorRequest, context: _Context
    ) -> monitor_pb2.DeleteBalanceMonitorResponse:
        """End a monitor."""
        return await self._commands.run(_DELETE_MONITOR, request.monitor_id, request)

    async def ListTransfers(
        self, request: service_pb.ListTransfersRequest, context: _Context
    ) -> service_pb.ListTransfersResponse:
        """List transfers by reference or by time."""
        wanted = reads.transfers_wanted(request)
        page = Page.of(request, reads.scope("transfers", request), reads.TRANSFER_PLACE)
        after = TransferPlace(**page.after) if page.after else None
        found = await self._ledger.list_transfers(wanted, after, page.size)
        transfers = fitting(messages.recorded_transfer(item.view) for item in found.items)
        found = found.up_to(len(transfers), lambda item: item.place)
        return service_pb.ListTransfersResponse(
            transfers=transfers, next_page_token=_token(page, found, reads.transfer_place)
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
        accounts = fitting(map(messages.account, found.items))
        found = found.up_to(len(accounts), lambda view: view.account.account_id)
        return service_pb.ListAccountsResponse(
            accounts=accounts,
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
        entries = fitting(map(reads.entry, found.items))
        found = found.up_to(len(entries), lambda item: item.place)
        return service_pb.ListEntriesResponse(
            entries=entries, next_page_token=_token(page, found, reads.entry_place)
        )

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
        entries = fitting(reads.statement_entry(statement, line) for line in found.items)
        found = found.up_to(len(entries), lambda line: line.place)
        token = _token(page, found, lambda place: reads.statement_place(statement, place))
        return reads.statement(statement, entries, token)

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
        as_of = messages.as_of(request)
        now, currencies = await self._ledger.trial_balance(as_of)
        return messages.trial_balance(now, as_of, currencies)

    async def GetBalance(
        self, request: service_pb.GetBalanceRequest, context: _Context
    ) -> service_pb.GetBalanceResponse:
        """Add one account up, or all whose names begin alike."""
        as_of = messages.as_of(request)
        if request.account_id:
            now, lines = await self._ledger.account_balance(request.account_id, as_of)
        else:
            now, lines = await self._ledger.prefix_balance(request.account_prefix, as_of)
        return messages.balance(now, as_of, lines)

    async def ClosePeriod(
        self, request: service_pb.ClosePeriodRequest, context: _Context
    ) -> service_pb.ClosePeriodResponse:
        """Close the books of a currency through an instant."""
        command = messages.closing_of(request)
        return await self._commands.run(_CLOSE, command, request)

    async def ReopenPeriod(
        self, request: service_pb.ReopenPeriodRequest, context: _Context
    ) -> service_pb.ReopenPeriodResponse:
        """Open the books of a currency again."""
        command = messages.reopening_of(request)
        return await self._commands.run(_REOPEN, command, request)

    async def ListPeriods(
        self, request: service_pb.ListPeriodsRequest, context: _Context
    ) -> service_pb.ListPeriodsResponse:
        """List how far the books are closed, by currency."""
        page = Page.of(request, "periods", {"currency_code": str})
        after = page.after.get("currency_code", "")
        found = await self._ledger.list_periods(after, page.limit)
        periods, token = await page.cut(
            found,
            messages.accounting_period,
            lambda period: {"currency_code": period.currency_code},
        )
        return service_pb.ListPeriodsResponse(periods=periods, next_page_token=token)

    async def GetLedgerHead(
        self, request: service_pb.GetLedgerHeadRequest, context: _Context
    ) -> service_pb.GetLedgerHeadResponse:
        """Return the newest block, signed."""
        head = await self._chain.head()
        return service_pb.GetLedgerHeadResponse(head=messages.ledger_head(head))

    async def ListBlocks(
        self, request: service_pb.ListBlocksRequest, context: _Context
    ) -> service_pb.ListBlocksResponse:
        """List blocks by number."""
        page = Page.of(request, f"blocks|{request.newest_first}", {"block_no": int})
        found = await self._chain.blocks(
            page.after.get("block_no", MINOR_UNITS_MAX if request.newest_first else 0),
            page.limit,
            newest_first=request.newest_first,
        )
        blocks, token = await page.cut(
            found, messages.block, lambda block: {"block_no": block.block_no}
        )
        return service_pb.ListBlocksResponse(blocks=blocks, next_page_token=token)

    async def VerifyIntegrity(
        self, request: service_pb.VerifyIntegrityRequest, context: _Context
    ) -> AsyncIterator[service_pb.VerifyIntegrityResponse]:
        """Send what is not as it must be, and how far it is."""
        checks = frozenset(filter(None, map(messages.CHECKS.read, request.checks)))
        asked = Asked(
            checks or frozenset(Check), tuple(map(messages.ledger_head_of, request.heads))
        )
        async with aclosing(self._integrity.verify(asked)) as answers:
            async for found in answers:
                await stream_begun()
                yield messages.verified(found)

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


def _place_of_scheduled(view: ScheduledView) -> dict[str, str]:
    not_before = view.transfer.not_before
    assert not_before is not None, "what is scheduled says when"
    return {"not_before": not_before.isoformat(), "transfer_id": str(view.transfer.transfer_id)}
