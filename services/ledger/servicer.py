"""LedgerService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import grpc
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import ledger_service_pb2_grpc

from services.ledger import messages
from services.ledger.app.ledger import Ledger
from services.ledger.app.periods import close_period, reopen_period
from services.ledger.app.posting import reverse_transfer
from services.ledger.domain.accounts import AccountFilter, AccountType, EntryPlace
from services.ledger.domain.reversals import Reversal
from services.ledger.domain.transfers import Malformed
from services.runtime.commands import Commands, UseCase
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.edge import validation
from services.runtime.edge.paging import Page
from services.runtime.money import exponent
from services.runtime.turns import in_slices
from services.runtime.violations import ViolationReporter

SERVICE = "payments.ledger.v1.LedgerService"
BATCH_ITEMS_MAX = 8190
EXPORT_ITEMS = 5000

_REVERSE = UseCase(
    "ledger.reverse_transfer",
    reverse_transfer,
    messages.reversed_,
    service_pb.ReverseTransferResponse,
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
# Between two looks at what else is to be done.
SLICE_ITEMS = 100


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Answers the RPCs of LedgerService."""

    def __init__(self, ledger: Ledger, commands: Commands, violations: ViolationReporter) -> None:
        self._ledger = ledger
        self._commands = commands
        self._violations = violations

    async def CreateAccounts(
        self, request: service_pb.CreateAccountsRequest, context: _Context
    ) -> service_pb.CreateAccountsResponse:
        """Create accounts, each judged by itself."""
        validation.check_batch(request.accounts, BATCH_ITEMS_MAX)
        numbered = in_slices(enumerate(request.accounts), SLICE_ITEMS)
        results = [messages.refused_account(index, item) async for index, item in numbered]
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
        batch = [
            messages.transfer_of(item) async for item in in_slices(request.transfers, SLICE_ITEMS)
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

    async def GetTransfer(
        self, request: service_pb.GetTransferRequest, context: _Context
    ) -> service_pb.GetTransferResponse:
        """Return one transfer."""
        view = await self._ledger.get_transfer(UUID(request.transfer_id))
        return service_pb.GetTransferResponse(transfer=messages.recorded_transfer(view))

    async def ListAccounts(
        self, request: service_pb.ListAccountsRequest, context: _Context
    ) -> service_pb.ListAccountsResponse:
        """List accounts by id."""
        if request.currency_code:
            exponent(request.currency_code)
        scope = f"accounts|{request.owner}|{request.currency_code}|{request.type}"
        page = Page.of(request, scope, {"account_id": str})
        wanted = AccountFilter(
            request.owner,
            request.currency_code,
            AccountType(request.type) if request.type else None,
        )
        after = page.after.get("account_id", "")
        found = await self._ledger.list_accounts(wanted, after, page.limit)
        views, token = page.cut(found, lambda view: {"account_id": view.account.account_id})
        return service_pb.ListAccountsResponse(
            accounts=map(messages.account, views), next_page_token=token
        )

    async def ListEntries(
        self, request: service_pb.ListEntriesRequest, context: _Context
    ) -> service_pb.ListEntriesResponse:
        """List the entries of one account by seq."""
        scope = f"entries|{request.account_id}|{request.newest_first}"
        page = Page.of(request, scope, {"seq": int})
        view, found = await self._ledger.list_entries(
            request.account_id,
            page.after.get("seq"),
            page.limit,
            newest_first=request.newest_first,
        )
        entries, token = page.cut(found, lambda entry: {"seq": entry.seq})
        return service_pb.ListEntriesResponse(
            entries=[messages.entry(entry, view.account.type) for entry in entries],
            next_page_token=token,
        )

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
        periods, token = page.cut(found, lambda period: {"currency_code": period.currency_code})
        return service_pb.ListPeriodsResponse(
            periods=map(messages.accounting_period, periods), next_page_token=token
        )

    def _tell_refused(self, method: str, faults: Sequence[str]) -> None:
        """Tell the contract monitor of items that break their rules, once a call."""
        if faults:
            message = f"{method}: {len(faults)} items break their rules, the first: {faults[0]}"
            self._violations.tell(REQUEST_VALIDATION, "LOW", message, f"/{SERVICE}/{method}")
