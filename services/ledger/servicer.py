"""LedgerService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import ledger_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.ledger.app import Ledger
from services.ledger.domain.accounts import (
    Account,
    AccountResult,
    AccountType,
    AccountView,
    Flags,
)
from services.ledger.domain.posting import Verdict
from services.ledger.domain.transfers import KIND_POSTED, Malformed, Transfer
from services.ledger.domain.trial_balance import CurrencySums, TypeSums
from services.ledger.store import AccountFilter, EntryView
from services.runtime.context import current
from services.runtime.contracts import INVARIANT, REQUEST_VALIDATION
from services.runtime.edge import validation
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.money import EXPONENTS, Money, exponent
from services.runtime.turns import in_slices
from services.runtime.violations import Violation, ViolationReporter

SERVICE = "payments.ledger.v1.LedgerService"
BATCH_ITEMS_MAX = 8190

_Context = grpc.aio.ServicerContext[Any, Any]


# Between two looks at what else is to be done.
SLICE_ITEMS = 100


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Answers the RPCs of LedgerService."""

    def __init__(self, ledger: Ledger, violations: ViolationReporter) -> None:
        self._ledger = ledger
        self._violations = violations

    async def CreateAccounts(
        self, request: service_pb.CreateAccountsRequest, context: _Context
    ) -> service_pb.CreateAccountsResponse:
        """Create accounts, each judged by itself."""
        validation.check_batch(request.accounts, BATCH_ITEMS_MAX)
        numbered = in_slices(enumerate(request.accounts), SLICE_ITEMS)
        results = [_refused_account(index, item) async for index, item in numbered]
        sound = [index for index, refused in enumerate(results) if refused is None]
        self._tell_refused("CreateAccounts", [item.message for item in results if item])
        accounts = [
            _account(request.accounts[index]) async for index in in_slices(sound, SLICE_ITEMS)
        ]
        verdicts = await self._ledger.create_accounts(accounts) if accounts else []
        judged = in_slices(zip(sound, accounts, verdicts, strict=True), SLICE_ITEMS)
        async for index, account, verdict in judged:
            results[index] = _account_result(index, account.account_id, verdict)
        return service_pb.CreateAccountsResponse(results=[item for item in results if item])

    async def PostTransfers(
        self, request: service_pb.PostTransfersRequest, context: _Context
    ) -> service_pb.PostTransfersResponse:
        """Post transfers, each judged by itself."""
        validation.check_batch(request.transfers, BATCH_ITEMS_MAX)
        batch = [_transfer(item) async for item in in_slices(request.transfers, SLICE_ITEMS)]
        faults = [item.message for item in batch if isinstance(item, Malformed)]
        self._tell_refused("PostTransfers", faults)
        verdicts = await self._ledger.post_transfers(batch)
        judged = in_slices(zip(request.transfers, batch, verdicts, strict=True), SLICE_ITEMS)
        response = service_pb.PostTransfersResponse()
        async for asked, item, verdict in judged:
            index = len(response.results)
            response.results.append(_transfer_result(index, asked.transfer_id, item, verdict))
        return response

    async def GetAccount(
        self, request: service_pb.GetAccountRequest, context: _Context
    ) -> service_pb.GetAccountResponse:
        """Return one account."""
        view = await self._ledger.get_account(request.account_id)
        return service_pb.GetAccountResponse(account=_account_message(view))

    async def ListAccounts(
        self, request: service_pb.ListAccountsRequest, context: _Context
    ) -> service_pb.ListAccountsResponse:
        """List accounts by id."""
        if request.currency_code:
            exponent(request.currency_code)
        scope = f"accounts|{request.owner}|{request.currency_code}|{request.type}"
        after = decode_token(request.page_token, scope, {"account_id": str}).get("account_id", "")
        wanted = AccountFilter(
            request.owner,
            request.currency_code,
            AccountType(request.type) if request.type else None,
        )
        limit = clamp_page_size(request.page_size)
        views = await self._ledger.list_accounts(wanted, after, limit + 1)
        response = service_pb.ListAccountsResponse(
            accounts=[_account_message(view) for view in views[:limit]]
        )
        if len(views) > limit:
            position = {"account_id": views[limit - 1].account.account_id}
            response.next_page_token = encode_token(position, scope)
        return response

    async def ListEntries(
        self, request: service_pb.ListEntriesRequest, context: _Context
    ) -> service_pb.ListEntriesResponse:
        """List the entries of one account by seq."""
        scope = f"entries|{request.account_id}|{request.newest_first}"
        after = decode_token(request.page_token, scope, {"seq": int}).get("seq")
        limit = clamp_page_size(request.page_size)
        view, entries = await self._ledger.list_entries(
            request.account_id,
            after,
            limit + 1,
            newest_first=request.newest_first,
        )
        response = service_pb.ListEntriesResponse(
            entries=[_entry_message(entry, view.account.type) for entry in entries[:limit]]
        )
        if len(entries) > limit:
            response.next_page_token = encode_token({"seq": entries[limit - 1].seq}, scope)
        return response

    async def GetTrialBalance(
        self, request: service_pb.GetTrialBalanceRequest, context: _Context
    ) -> service_pb.GetTrialBalanceResponse:
        """Add all accounts up."""
        recorded_at, currencies = await self._ledger.trial_balance()
        for item in currencies:
            if item.difference.minor_units:
                message = f"debits and credits of {item.currency_code} differ: {item.difference}"
                self._tell(INVARIANT, "CRITICAL", message, "trial-balance")
        balance = pb.TrialBalance(currencies=[_currency_message(item) for item in currencies])
        balance.recorded_at.FromDatetime(recorded_at)
        return service_pb.GetTrialBalanceResponse(trial_balance=balance)

    def _tell_refused(self, method: str, faults: Sequence[str]) -> None:
        """Tell the contract monitor of items that break their rules, once a call."""
        if faults:
            message = f"{method}: {len(faults)} items break their rules, the first: {faults[0]}"
            self._tell(REQUEST_VALIDATION, "LOW", message, f"/{SERVICE}/{method}")

    def _tell(self, contract_id: str, severity: str, message: str, subject_id: str) -> None:
        violation = Violation(current(), contract_id, severity, message[:1000], subject_id)
        self._violations.report(violation)


# ---- In


def _refused_account(index: int, item: pb.Account) -> service_pb.CreateAccountResult | None:
    """Answer an account that is refused as it stands; None for one that may be created."""
    broken = validation.violations(item)
    if broken:
        message = "; ".join(f"{v.field}: {v.description}" for v in broken[:5])
        return _account_result(index, item.account_id, AccountResult.INVALID_ACCOUNT, message)
    if item.currency_code not in EXPONENTS:
        message = f"currency_code: {item.currency_code!r} is not an ISO 4217 code"
        return _account_result(index, item.account_id, AccountResult.UNKNOWN_CURRENCY, message)
    return None


def _account(item: pb.Account) -> Account:
    return Account(
        account_id=item.account_id,
        currency_code=item.currency_code,
        type=AccountType(item.type),
        flags=Flags(
            item.flags.debits_must_not_exceed_credits,
            item.flags.credits_must_not_exceed_debits,
            item.flags.closed,
        ),
        owner=item.owner,
        metadata=dict(item.metadata),
    )


def _transfer(item: pb.Transfer) -> Transfer | Malformed:
    broken = validation.violations(item)
    if broken:
        message = "; ".join(f"{v.field}: {v.description}" for v in broken[:5])
        return Malformed(message, item.linked)
    return Transfer(
        transfer_id=UUID(item.transfer_id),
        debit_account_id=item.debit_account_id,
        credit_account_id=item.credit_account_id,
        currency_code=item.amount.currency_code,
        amount_minor=item.amount.minor_units,
        code=item.code,
        kind=item.kind or KIND_POSTED,
        linked=item.linked,
        effective_at=item.effective_at.ToDatetime(UTC) if item.HasField("effective_at") else None,
        metadata=dict(item.metadata),
    )


# ---- Out


def _account_result(
    index: int, account_id: str, result: AccountResult, message: str = ""
) -> service_pb.CreateAccountResult:
    settled = result in {AccountResult.OK, AccountResult.EXISTS}
    if not settled and not message:
        message = f"account {account_id} {result.name.lower().replace('_', ' ')}; the first stands"
    return service_pb.CreateAccountResult(
        index=index,
        account_id=account_id,
        result=int(result),  # type: ignore[arg-type] # numbers agree, see the tests
        message=message,
    )


def _transfer_result(
    index: int, transfer_id: str, item: Transfer | Malformed, verdict: Verdict
) -> service_pb.PostTransferResult:
    result = service_pb.PostTransferResult(index=index, transfer_id=transfer_id)
    result.result = int(verdict.result)  # type: ignore[assignment] # numbers agree, see the tests
    if verdict.original is not None:
        result.original_result = int(verdict.original)  # type: ignore[assignment]
    if isinstance(item, Malformed):
        result.message = item.message
    return result


def _account_message(view: AccountView) -> pb.Account:
    account = view.account
    flags = account.flags
    message = pb.Account(
        account_id=account.account_id,
        currency_code=account.currency_code,
        type=int(account.type),  # type: ignore[arg-type]
        flags=pb.AccountFlags(
            debits_must_not_exceed_credits=flags.debits_must_not_exceed_credits,
            credits_must_not_exceed_debits=flags.credits_must_not_exceed_debits,
            closed=flags.closed,
        ),
        owner=account.owner,
        metadata=account.metadata,
        balances=pb.Balances(debits_posted=view.debits_posted, credits_posted=view.credits_posted),
    )
    message.created_at.FromDatetime(view.created_at)
    return message


def _entry_message(entry: EntryView, account_type: AccountType) -> pb.Entry:
    is_debit = entry.amount_minor > 0
    balance_after = account_type.balance(entry.balance_after_minor)
    message = pb.Entry(
        account_id=entry.account_id,
        seq=entry.seq,
        transfer_id=str(entry.transfer_id),
        direction=pb.DIRECTION_DEBIT if is_debit else pb.DIRECTION_CREDIT,
        amount=_minor(entry.currency_code, abs(entry.amount_minor)),
        balance_after=_minor(entry.currency_code, balance_after),
        counter_account_id=entry.credit_account_id if is_debit else entry.debit_account_id,
        code=entry.code,
        metadata=entry.metadata,
    )
    message.recorded_at.FromDatetime(_utc(entry.recorded_at))
    message.effective_at.FromDatetime(_utc(entry.effective_at))
    return message


def _currency_message(sums: CurrencySums) -> pb.CurrencyTrialBalance:
    return pb.CurrencyTrialBalance(
        currency_code=sums.currency_code,
        debits=_money(sums.debits),
        credits=_money(sums.credits),
        difference=_money(sums.difference),
        types=[_type_message(item) for item in sums.types],
    )


def _type_message(sums: TypeSums) -> pb.TypeTrialBalance:
    return pb.TypeTrialBalance(
        type=int(sums.type),  # type: ignore[arg-type]
        accounts=sums.accounts,
        debits=_money(sums.debits),
        credits=_money(sums.credits),
        balance=_money(sums.balance),
    )


def _money(amount: Money) -> type_pb2.Money:
    return _minor(amount.currency_code, amount.minor_units)


def _minor(currency_code: str, minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code=currency_code, minor_units=minor_units)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
