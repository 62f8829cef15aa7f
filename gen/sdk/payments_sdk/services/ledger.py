"""LedgerService keeps the books: every amount leaves one account and enters another of the same
currency.


Written by `make generate` from payments/ledger/v1/ledger_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.ledger import v1 as ledger_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncLedgerService", "LedgerService")

_CREATE_ACCOUNTS = Method(
    "/payments.ledger.v1.LedgerService/CreateAccounts",
    ledger_v1.CreateAccountsRequest,
    ledger_v1.CreateAccountsResponse,
    repeatable=True,
    has_request_id=False,
)
_POST_TRANSFERS = Method(
    "/payments.ledger.v1.LedgerService/PostTransfers",
    ledger_v1.PostTransfersRequest,
    ledger_v1.PostTransfersResponse,
    repeatable=True,
    has_request_id=False,
)
_REVERSE_TRANSFER = Method(
    "/payments.ledger.v1.LedgerService/ReverseTransfer",
    ledger_v1.ReverseTransferRequest,
    ledger_v1.ReverseTransferResponse,
    repeatable=True,
    has_request_id=True,
)
_POST_RECIPE = Method(
    "/payments.ledger.v1.LedgerService/PostRecipe",
    ledger_v1.PostRecipeRequest,
    ledger_v1.PostRecipeResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_ACCOUNT = Method(
    "/payments.ledger.v1.LedgerService/GetAccount",
    ledger_v1.GetAccountRequest,
    ledger_v1.GetAccountResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_TRANSFER = Method(
    "/payments.ledger.v1.LedgerService/GetTransfer",
    ledger_v1.GetTransferRequest,
    ledger_v1.GetTransferResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_BALANCE = Method(
    "/payments.ledger.v1.LedgerService/GetBalance",
    ledger_v1.GetBalanceRequest,
    ledger_v1.GetBalanceResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_ACCOUNTS = Method(
    "/payments.ledger.v1.LedgerService/ListAccounts",
    ledger_v1.ListAccountsRequest,
    ledger_v1.ListAccountsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_ENTRIES = Method(
    "/payments.ledger.v1.LedgerService/ListEntries",
    ledger_v1.ListEntriesRequest,
    ledger_v1.ListEntriesResponse,
    repeatable=True,
    has_request_id=False,
)
_EXPORT_ENTRIES = Method(
    "/payments.ledger.v1.LedgerService/ExportEntries",
    ledger_v1.ExportEntriesRequest,
    ledger_v1.ExportEntriesResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_TRIAL_BALANCE = Method(
    "/payments.ledger.v1.LedgerService/GetTrialBalance",
    ledger_v1.GetTrialBalanceRequest,
    ledger_v1.GetTrialBalanceResponse,
    repeatable=True,
    has_request_id=False,
)
_CLOSE_PERIOD = Method(
    "/payments.ledger.v1.LedgerService/ClosePeriod",
    ledger_v1.ClosePeriodRequest,
    ledger_v1.ClosePeriodResponse,
    repeatable=True,
    has_request_id=True,
)
_REOPEN_PERIOD = Method(
    "/payments.ledger.v1.LedgerService/ReopenPeriod",
    ledger_v1.ReopenPeriodRequest,
    ledger_v1.ReopenPeriodResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_PERIODS = Method(
    "/payments.ledger.v1.LedgerService/ListPeriods",
    ledger_v1.ListPeriodsRequest,
    ledger_v1.ListPeriodsResponse,
    repeatable=True,
    has_request_id=False,
)


class LedgerService:
    """LedgerService keeps the books: every amount leaves one account and enters another of the same
    currency.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_accounts(
        self, request: ledger_v1.CreateAccountsRequest, *, timeout: float | None = None
    ) -> ledger_v1.CreateAccountsResponse:
        """CreateAccounts creates up to 8,190 accounts and answers for each. An account that exists
        with the same content is left alone and answered ACCOUNT_RESULT_EXISTS, so that a call may
        be repeated.
        """
        return self._caller.unary(_CREATE_ACCOUNTS, request, timeout)

    def post_transfers(
        self, request: ledger_v1.PostTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostTransfersResponse:
        """PostTransfers posts up to 8,190 transfers in one transaction, in their order, and answers
        for each: one that is refused does not disturb the others, unless they are linked to it. The
        answer comes after the commit. A caller that lost the answer sends the same call again and
        learns the same.
        """
        return self._caller.unary(_POST_TRANSFERS, request, timeout)

    def reverse_transfer(
        self, request: ledger_v1.ReverseTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.ReverseTransferResponse:
        """ReverseTransfer posts the opposite of a transfer that was posted, once: the same amount from
        the account that was credited to the one that was debited, with the same code, now. Both
        stay in the books and name each other. The accounts' limits hold for it as for every
        transfer.

        Errors: NOT_FOUND when there is no such transfer; TRANSFER_NOT_REVERSIBLE for a hold and for
        what voided one; TRANSFER_ALREADY_REVERSED; REVERSAL_REFUSED when an account refuses it.
        """
        return self._caller.unary(_REVERSE_TRANSFER, request, timeout)

    def post_recipe(
        self, request: ledger_v1.PostRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostRecipeResponse:
        """PostRecipe posts what a recipe makes of a fact, whole or not at all, in one transaction.
        Accounts that the recipe declares and that do not exist yet are created. A recipe is posted
        once for a reference: repeated, with this request_id or another, the posting of the first
        time is answered.

        Errors: RECIPE_NOT_FOUND; INVALID_FIELD for parameters that the recipe does not take;
        POSTING_EXISTS when the reference was posted with other parameters; RECIPE_REFUSED when an
        account refuses a leg: nothing was posted, and the same call can be repeated once the
        account was put right.
        """
        return self._caller.unary(_POST_RECIPE, request, timeout)

    def get_account(
        self, request: ledger_v1.GetAccountRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetAccountResponse:
        """GetAccount returns an account with its balances; NOT_FOUND when there is none of that name."""
        return self._caller.unary(_GET_ACCOUNT, request, timeout)

    def get_transfer(
        self, request: ledger_v1.GetTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTransferResponse:
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold;
        NOT_FOUND when there is none of this id, or one that was refused.
        """
        return self._caller.unary(_GET_TRANSFER, request, timeout)

    def get_balance(
        self, request: ledger_v1.GetBalanceRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetBalanceResponse:
        """GetBalance adds up the debits and credits that were posted to one account, or to all
        accounts whose names begin alike, by currency and type: now, or as of a time. `effective_at`
        counts what takes effect at it or before, `recorded_at` what was recorded at it or before,
        both only what did both; the answer is exact for every microsecond. A time that is past
        always gives the same answer once the batches that had begun by then have ended, unless
        something is posted back in time: `recorded_at` beside `effective_at` is not moved by that
        either.

        Errors: NOT_FOUND when there is no such account; TOO_MANY_ACCOUNTS for a prefix of more than
        10,000 accounts; AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return self._caller.unary(_GET_BALANCE, request, timeout)

    def list_accounts(
        self, request: ledger_v1.ListAccountsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListAccountsResponse:
        """ListAccounts lists accounts with their balances, by account_id. UNKNOWN_CURRENCY for an
        unknown currency.
        """
        return self._caller.unary(_LIST_ACCOUNTS, request, timeout)

    def all_accounts(
        self, request: ledger_v1.ListAccountsRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.Account]:
        """Yield the accounts of all pages of list_accounts, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListAccountsRequest) -> ledger_v1.ListAccountsResponse:
            return self.list_accounts(asked, timeout=timeout)

        return items(page, request, "accounts", BY_TOKEN)

    def list_entries(
        self, request: ledger_v1.ListEntriesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListEntriesResponse:
        """ListEntries lists the entries of one account, by seq; NOT_FOUND when there is no such
        account.
        """
        return self._caller.unary(_LIST_ENTRIES, request, timeout)

    def all_entries(
        self, request: ledger_v1.ListEntriesRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.Entry]:
        """Yield the entries of all pages of list_entries, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListEntriesRequest) -> ledger_v1.ListEntriesResponse:
            return self.list_entries(asked, timeout=timeout)

        return items(page, request, "entries", BY_TOKEN)

    def export_entries(
        self, request: ledger_v1.ExportEntriesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ExportEntriesResponse:
        """ExportEntries reads the entries of many accounts by column: of all accounts, of some or of
        an owner's, by account_id and seq. It is how whole books are copied; ListEntries shows one
        account. NOT_FOUND when there is no account of a name that was given; INVALID_FIELD for
        account_ids beside an owner.
        """
        return self._caller.unary(_EXPORT_ENTRIES, request, timeout)

    def get_trial_balance(
        self, request: ledger_v1.GetTrialBalanceRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTrialBalanceResponse:
        """GetTrialBalance adds up all accounts in one snapshot of the database, now or as of a time
        (see GetBalance). Answers AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return self._caller.unary(_GET_TRIAL_BALANCE, request, timeout)

    def close_period(
        self, request: ledger_v1.ClosePeriodRequest, *, timeout: float | None = None
    ) -> ledger_v1.ClosePeriodResponse:
        """ClosePeriod closes the books of a currency through an instant: no transfer that takes effect
        then or before is posted any more (TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD). It waits
        for the batches that are just being posted, and what the books hold of the period does not
        change from its answer on. Books that are closed through this very instant are left as they
        are.

        Errors: UNKNOWN_CURRENCY; PERIOD_IN_FUTURE for an instant to come; PERIOD_ALREADY_CLOSED
        when they are closed further.
        """
        return self._caller.unary(_CLOSE_PERIOD, request, timeout)

    def reopen_period(
        self, request: ledger_v1.ReopenPeriodRequest, *, timeout: float | None = None
    ) -> ledger_v1.ReopenPeriodResponse:
        """ReopenPeriod opens the books of a currency again, behind an earlier instant or wholly.

        Errors: UNKNOWN_CURRENCY; PERIOD_NOT_CLOSED when the books are not closed beyond that
        instant, or not at all.
        """
        return self._caller.unary(_REOPEN_PERIOD, request, timeout)

    def list_periods(
        self, request: ledger_v1.ListPeriodsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListPeriodsResponse:
        """ListPeriods lists how far the books are closed, by currency: those that were closed at least
        once.
        """
        return self._caller.unary(_LIST_PERIODS, request, timeout)

    def all_periods(
        self, request: ledger_v1.ListPeriodsRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.AccountingPeriod]:
        """Yield the periods of all pages of list_periods, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListPeriodsRequest) -> ledger_v1.ListPeriodsResponse:
            return self.list_periods(asked, timeout=timeout)

        return items(page, request, "periods", BY_TOKEN)


class AsyncLedgerService:
    """LedgerService keeps the books: every amount leaves one account and enters another of the same
    currency.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_accounts(
        self, request: ledger_v1.CreateAccountsRequest, *, timeout: float | None = None
    ) -> ledger_v1.CreateAccountsResponse:
        """CreateAccounts creates up to 8,190 accounts and answers for each. An account that exists
        with the same content is left alone and answered ACCOUNT_RESULT_EXISTS, so that a call may
        be repeated.
        """
        return await self._caller.unary(_CREATE_ACCOUNTS, request, timeout)

    async def post_transfers(
        self, request: ledger_v1.PostTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostTransfersResponse:
        """PostTransfers posts up to 8,190 transfers in one transaction, in their order, and answers
        for each: one that is refused does not disturb the others, unless they are linked to it. The
        answer comes after the commit. A caller that lost the answer sends the same call again and
        learns the same.
        """
        return await self._caller.unary(_POST_TRANSFERS, request, timeout)

    async def reverse_transfer(
        self, request: ledger_v1.ReverseTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.ReverseTransferResponse:
        """ReverseTransfer posts the opposite of a transfer that was posted, once: the same amount from
        the account that was credited to the one that was debited, with the same code, now. Both
        stay in the books and name each other. The accounts' limits hold for it as for every
        transfer.

        Errors: NOT_FOUND when there is no such transfer; TRANSFER_NOT_REVERSIBLE for a hold and for
        what voided one; TRANSFER_ALREADY_REVERSED; REVERSAL_REFUSED when an account refuses it.
        """
        return await self._caller.unary(_REVERSE_TRANSFER, request, timeout)

    async def post_recipe(
        self, request: ledger_v1.PostRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostRecipeResponse:
        """PostRecipe posts what a recipe makes of a fact, whole or not at all, in one transaction.
        Accounts that the recipe declares and that do not exist yet are created. A recipe is posted
        once for a reference: repeated, with this request_id or another, the posting of the first
        time is answered.

        Errors: RECIPE_NOT_FOUND; INVALID_FIELD for parameters that the recipe does not take;
        POSTING_EXISTS when the reference was posted with other parameters; RECIPE_REFUSED when an
        account refuses a leg: nothing was posted, and the same call can be repeated once the
        account was put right.
        """
        return await self._caller.unary(_POST_RECIPE, request, timeout)

    async def get_account(
        self, request: ledger_v1.GetAccountRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetAccountResponse:
        """GetAccount returns an account with its balances; NOT_FOUND when there is none of that name."""
        return await self._caller.unary(_GET_ACCOUNT, request, timeout)

    async def get_transfer(
        self, request: ledger_v1.GetTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTransferResponse:
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold;
        NOT_FOUND when there is none of this id, or one that was refused.
        """
        return await self._caller.unary(_GET_TRANSFER, request, timeout)

    async def get_balance(
        self, request: ledger_v1.GetBalanceRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetBalanceResponse:
        """GetBalance adds up the debits and credits that were posted to one account, or to all
        accounts whose names begin alike, by currency and type: now, or as of a time. `effective_at`
        counts what takes effect at it or before, `recorded_at` what was recorded at it or before,
        both only what did both; the answer is exact for every microsecond. A time that is past
        always gives the same answer once the batches that had begun by then have ended, unless
        something is posted back in time: `recorded_at` beside `effective_at` is not moved by that
        either.

        Errors: NOT_FOUND when there is no such account; TOO_MANY_ACCOUNTS for a prefix of more than
        10,000 accounts; AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return await self._caller.unary(_GET_BALANCE, request, timeout)

    async def list_accounts(
        self, request: ledger_v1.ListAccountsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListAccountsResponse:
        """ListAccounts lists accounts with their balances, by account_id. UNKNOWN_CURRENCY for an
        unknown currency.
        """
        return await self._caller.unary(_LIST_ACCOUNTS, request, timeout)

    def all_accounts(
        self, request: ledger_v1.ListAccountsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.Account]:
        """Yield the accounts of all pages of list_accounts, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListAccountsRequest) -> ledger_v1.ListAccountsResponse:
            return await self.list_accounts(asked, timeout=timeout)

        return items_async(page, request, "accounts", BY_TOKEN)

    async def list_entries(
        self, request: ledger_v1.ListEntriesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListEntriesResponse:
        """ListEntries lists the entries of one account, by seq; NOT_FOUND when there is no such
        account.
        """
        return await self._caller.unary(_LIST_ENTRIES, request, timeout)

    def all_entries(
        self, request: ledger_v1.ListEntriesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.Entry]:
        """Yield the entries of all pages of list_entries, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListEntriesRequest) -> ledger_v1.ListEntriesResponse:
            return await self.list_entries(asked, timeout=timeout)

        return items_async(page, request, "entries", BY_TOKEN)

    async def export_entries(
        self, request: ledger_v1.ExportEntriesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ExportEntriesResponse:
        """ExportEntries reads the entries of many accounts by column: of all accounts, of some or of
        an owner's, by account_id and seq. It is how whole books are copied; ListEntries shows one
        account. NOT_FOUND when there is no account of a name that was given; INVALID_FIELD for
        account_ids beside an owner.
        """
        return await self._caller.unary(_EXPORT_ENTRIES, request, timeout)

    async def get_trial_balance(
        self, request: ledger_v1.GetTrialBalanceRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTrialBalanceResponse:
        """GetTrialBalance adds up all accounts in one snapshot of the database, now or as of a time
        (see GetBalance). Answers AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return await self._caller.unary(_GET_TRIAL_BALANCE, request, timeout)

    async def close_period(
        self, request: ledger_v1.ClosePeriodRequest, *, timeout: float | None = None
    ) -> ledger_v1.ClosePeriodResponse:
        """ClosePeriod closes the books of a currency through an instant: no transfer that takes effect
        then or before is posted any more (TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD). It waits
        for the batches that are just being posted, and what the books hold of the period does not
        change from its answer on. Books that are closed through this very instant are left as they
        are.

        Errors: UNKNOWN_CURRENCY; PERIOD_IN_FUTURE for an instant to come; PERIOD_ALREADY_CLOSED
        when they are closed further.
        """
        return await self._caller.unary(_CLOSE_PERIOD, request, timeout)

    async def reopen_period(
        self, request: ledger_v1.ReopenPeriodRequest, *, timeout: float | None = None
    ) -> ledger_v1.ReopenPeriodResponse:
        """ReopenPeriod opens the books of a currency again, behind an earlier instant or wholly.

        Errors: UNKNOWN_CURRENCY; PERIOD_NOT_CLOSED when the books are not closed beyond that
        instant, or not at all.
        """
        return await self._caller.unary(_REOPEN_PERIOD, request, timeout)

    async def list_periods(
        self, request: ledger_v1.ListPeriodsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListPeriodsResponse:
        """ListPeriods lists how far the books are closed, by currency: those that were closed at least
        once.
        """
        return await self._caller.unary(_LIST_PERIODS, request, timeout)

    def all_periods(
        self, request: ledger_v1.ListPeriodsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.AccountingPeriod]:
        """Yield the periods of all pages of list_periods, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListPeriodsRequest) -> ledger_v1.ListPeriodsResponse:
            return await self.list_periods(asked, timeout=timeout)

        return items_async(page, request, "periods", BY_TOKEN)
