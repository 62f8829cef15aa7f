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
_CANCEL_SCHEDULED_TRANSFER = Method(
    "/payments.ledger.v1.LedgerService/CancelScheduledTransfer",
    ledger_v1.CancelScheduledTransferRequest,
    ledger_v1.CancelScheduledTransferResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_SCHEDULED_TRANSFERS = Method(
    "/payments.ledger.v1.LedgerService/ListScheduledTransfers",
    ledger_v1.ListScheduledTransfersRequest,
    ledger_v1.ListScheduledTransfersResponse,
    repeatable=True,
    has_request_id=False,
)
_PUT_BALANCE_MONITOR = Method(
    "/payments.ledger.v1.LedgerService/PutBalanceMonitor",
    ledger_v1.PutBalanceMonitorRequest,
    ledger_v1.PutBalanceMonitorResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_BALANCE_MONITORS = Method(
    "/payments.ledger.v1.LedgerService/ListBalanceMonitors",
    ledger_v1.ListBalanceMonitorsRequest,
    ledger_v1.ListBalanceMonitorsResponse,
    repeatable=True,
    has_request_id=False,
)
_DELETE_BALANCE_MONITOR = Method(
    "/payments.ledger.v1.LedgerService/DeleteBalanceMonitor",
    ledger_v1.DeleteBalanceMonitorRequest,
    ledger_v1.DeleteBalanceMonitorResponse,
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
_POST_RECIPES = Method(
    "/payments.ledger.v1.LedgerService/PostRecipes",
    ledger_v1.PostRecipesRequest,
    ledger_v1.PostRecipesResponse,
    repeatable=True,
    has_request_id=False,
)
_PUT_RECIPE = Method(
    "/payments.ledger.v1.LedgerService/PutRecipe",
    ledger_v1.PutRecipeRequest,
    ledger_v1.PutRecipeResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_RECIPE = Method(
    "/payments.ledger.v1.LedgerService/GetRecipe",
    ledger_v1.GetRecipeRequest,
    ledger_v1.GetRecipeResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_RECIPES = Method(
    "/payments.ledger.v1.LedgerService/ListRecipes",
    ledger_v1.ListRecipesRequest,
    ledger_v1.ListRecipesResponse,
    repeatable=True,
    has_request_id=False,
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
_LIST_TRANSFERS = Method(
    "/payments.ledger.v1.LedgerService/ListTransfers",
    ledger_v1.ListTransfersRequest,
    ledger_v1.ListTransfersResponse,
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
_GET_STATEMENT = Method(
    "/payments.ledger.v1.LedgerService/GetStatement",
    ledger_v1.GetStatementRequest,
    ledger_v1.GetStatementResponse,
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
_GET_LEDGER_HEAD = Method(
    "/payments.ledger.v1.LedgerService/GetLedgerHead",
    ledger_v1.GetLedgerHeadRequest,
    ledger_v1.GetLedgerHeadResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_BLOCKS = Method(
    "/payments.ledger.v1.LedgerService/ListBlocks",
    ledger_v1.ListBlocksRequest,
    ledger_v1.ListBlocksResponse,
    repeatable=True,
    has_request_id=False,
)
_VERIFY_INTEGRITY = Method(
    "/payments.ledger.v1.LedgerService/VerifyIntegrity",
    ledger_v1.VerifyIntegrityRequest,
    ledger_v1.VerifyIntegrityResponse,
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
        what voided one; TRANSFER_ALREADY_REVERSED; REVERSAL_REFUSED when an account refuses it, or
        recipes have reversed a part of it.
        """
        return self._caller.unary(_REVERSE_TRANSFER, request, timeout)

    def cancel_scheduled_transfer(
        self, request: ledger_v1.CancelScheduledTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.CancelScheduledTransferResponse:
        """CancelScheduledTransfer takes a scheduled transfer back while it waits, and the whole chain
        of one that is linked. Its id stays used: sent again it is answered ID_ALREADY_FAILED with
        original_result CANCELLED.

        Errors: NOT_FOUND when no transfer of this id was scheduled; SCHEDULED_TRANSFER_ENDED when
        it was posted, refused or cancelled before.
        """
        return self._caller.unary(_CANCEL_SCHEDULED_TRANSFER, request, timeout)

    def list_scheduled_transfers(
        self, request: ledger_v1.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListScheduledTransfersResponse:
        """ListScheduledTransfers lists transfers that were scheduled, those of one state, by when they
        are due and by transfer_id.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_SCHEDULED_TRANSFERS, request, timeout)

    def all_scheduled_transfers(
        self, request: ledger_v1.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.ScheduledTransfer]:
        """Yield the scheduled_transfers of all pages of list_scheduled_transfers, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListScheduledTransfersRequest) -> ledger_v1.ListScheduledTransfersResponse:
            return self.list_scheduled_transfers(asked, timeout=timeout)

        return items(page, request, "scheduled_transfers", BY_TOKEN)

    def put_balance_monitor(
        self, request: ledger_v1.PutBalanceMonitorRequest, *, timeout: float | None = None
    ) -> ledger_v1.PutBalanceMonitorResponse:
        """PutBalanceMonitor watches the balance of an account, or of each account whose id has a
        prefix: whenever one comes to satisfy the comparison with the threshold, one event
        `ledger.balance.crossed` tells so, and the next only after the balance has come back. The
        same monitor_id again changes the monitor. A balance that satisfies it already is told by
        `state` and by no event.

        Errors: NOT_FOUND when there is no such account; INVALID_FIELD when the threshold is in
        another currency than the account; BALANCE_MONITORS_FULL when the tenant has as many as it
        may.
        """
        return self._caller.unary(_PUT_BALANCE_MONITOR, request, timeout)

    def list_balance_monitors(
        self, request: ledger_v1.ListBalanceMonitorsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListBalanceMonitorsResponse:
        """ListBalanceMonitors lists monitors, by monitor_id.

        Errors: INVALID_PAGE_TOKEN, NOT_FOUND for an account that there is none of.
        """
        return self._caller.unary(_LIST_BALANCE_MONITORS, request, timeout)

    def all_balance_monitors(
        self, request: ledger_v1.ListBalanceMonitorsRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.BalanceMonitor]:
        """Yield the monitors of all pages of list_balance_monitors, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListBalanceMonitorsRequest) -> ledger_v1.ListBalanceMonitorsResponse:
            return self.list_balance_monitors(asked, timeout=timeout)

        return items(page, request, "monitors", BY_TOKEN)

    def delete_balance_monitor(
        self, request: ledger_v1.DeleteBalanceMonitorRequest, *, timeout: float | None = None
    ) -> ledger_v1.DeleteBalanceMonitorResponse:
        """DeleteBalanceMonitor ends a monitor.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_DELETE_BALANCE_MONITOR, request, timeout)

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

    def post_recipes(
        self, request: ledger_v1.PostRecipesRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostRecipesResponse:
        """PostRecipes posts up to 1,000 facts, each as PostRecipe does, in one transaction and in
        their order, and answers for each: one that is refused leaves nothing and does not disturb
        the others. Each is known again by its recipe and reference, so that a caller that lost the
        answer sends the same call again. All of them make 8,190 transfers at most; more are refused
        with BATCH_TOO_LARGE.
        """
        return self._caller.unary(_POST_RECIPES, request, timeout)

    def put_recipe(
        self, request: ledger_v1.PutRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.PutRecipeResponse:
        """PutRecipe stores a recipe, as version 1 or as the next one of its name. Versions never
        change; the content that the newest one has is no new version. It is checked first, whole.

        Errors: RECIPE_INVALID, which names every fault with its place; a name that a recipe of the
        product has is one.
        """
        return self._caller.unary(_PUT_RECIPE, request, timeout)

    def get_recipe(
        self, request: ledger_v1.GetRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetRecipeResponse:
        """GetRecipe returns a recipe of the product or of the tenant. Errors: RECIPE_NOT_FOUND."""
        return self._caller.unary(_GET_RECIPE, request, timeout)

    def list_recipes(
        self, request: ledger_v1.ListRecipesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListRecipesResponse:
        """ListRecipes lists the newest versions of all recipes, the product's among them, by name."""
        return self._caller.unary(_LIST_RECIPES, request, timeout)

    def all_recipes(
        self, request: ledger_v1.ListRecipesRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.Recipe]:
        """Yield the recipes of all pages of list_recipes, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListRecipesRequest) -> ledger_v1.ListRecipesResponse:
            return self.list_recipes(asked, timeout=timeout)

        return items(page, request, "recipes", BY_TOKEN)

    def get_account(
        self, request: ledger_v1.GetAccountRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetAccountResponse:
        """GetAccount returns an account with its balances; NOT_FOUND when there is none of that name."""
        return self._caller.unary(_GET_ACCOUNT, request, timeout)

    def get_transfer(
        self, request: ledger_v1.GetTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTransferResponse:
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold; also
        one that was scheduled, whether it waits, was posted, refused or cancelled. NOT_FOUND when
        there is none of this id, or one that was refused when it was sent.
        """
        return self._caller.unary(_GET_TRANSFER, request, timeout)

    def list_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListTransfersResponse:
        """ListTransfers lists transfers, all that are in the books or those of a reference, an
        account, a code or a time, oldest first unless asked otherwise: by recorded_at and the place
        in the books; those of a reference by the place alone. An answer looks at 5,000 transfers at
        most, so one may come without any, and others follow all the same. INVALID_FIELD for half a
        reference, NOT_FOUND for an account that there is none of.
        """
        return self._caller.unary(_LIST_TRANSFERS, request, timeout)

    def all_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.RecordedTransfer]:
        """Yield the transfers of all pages of list_transfers, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListTransfersRequest) -> ledger_v1.ListTransfersResponse:
            return self.list_transfers(asked, timeout=timeout)

        return items(page, request, "transfers", BY_TOKEN)

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
        unknown currency. With a filter an answer looks at 5,000 accounts at most, so one may come
        without any, and others follow all the same.
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
        """ListEntries lists the entries of one account, by seq, or of all accounts whose names begin
        alike, by account_id and seq. With a filter an answer looks at 5,000 entries at most, so one
        may come without any, and others follow all the same. NOT_FOUND when there is no such
        account; INVALID_FIELD unless either an account or a prefix is given.
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

    def get_statement(
        self, request: ledger_v1.GetStatementRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetStatementResponse:
        """GetStatement returns what happened on an account in a period: opening balance, entries with
        the balance behind each, closing balance, and the sums of debits and credits. A statement is
        made once and read page by page; what is posted meanwhile is not in it. Asked again with the
        recorded_at and the last_seq that it names, it is the same for ever.

        Errors: NOT_FOUND when there is no such account; INVALID_FIELD for a last_seq that the
        account has not reached.
        """
        return self._caller.unary(_GET_STATEMENT, request, timeout)

    def all_get_statement(
        self, request: ledger_v1.GetStatementRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.StatementEntry]:
        """Yield the entries of all pages of get_statement, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.GetStatementRequest) -> ledger_v1.GetStatementResponse:
            return self.get_statement(asked, timeout=timeout)

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

    def get_ledger_head(
        self, request: ledger_v1.GetLedgerHeadRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetLedgerHeadResponse:
        """GetLedgerHead returns the newest block of the chain of transfers, signed. Keep it where
        nobody who can write to the database can: VerifyIntegrity proves by it that nothing up to it
        was rewritten. Blocks are closed some seconds after a transfer was posted, so the head does
        not cover the very last ones.

        Errors: NOT_FOUND when no block was closed yet; SECRETS_KEY_MISSING when the signing key
        cannot be kept, or read.
        """
        return self._caller.unary(_GET_LEDGER_HEAD, request, timeout)

    def list_blocks(
        self, request: ledger_v1.ListBlocksRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListBlocksResponse:
        """ListBlocks lists the blocks of the chain, by block_no."""
        return self._caller.unary(_LIST_BLOCKS, request, timeout)

    def all_blocks(
        self, request: ledger_v1.ListBlocksRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.Block]:
        """Yield the blocks of all pages of list_blocks, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: ledger_v1.ListBlocksRequest) -> ledger_v1.ListBlocksResponse:
            return self.list_blocks(asked, timeout=timeout)

        return items(page, request, "blocks", BY_TOKEN)

    def verify_integrity(
        self, request: ledger_v1.VerifyIntegrityRequest, *, timeout: float | None = None
    ) -> Iterator[ledger_v1.VerifyIntegrityResponse]:
        """VerifyIntegrity looks at all books of the tenant and sends what is not as it must be, and
        how far it is. It reads page by page, while transfers go on to be posted; a caller that
        reads slowly slows it down, and one that leaves ends it. What it finds is told to the
        contract monitor too, as `ledger/integrity`.

        Errors: VERIFICATION_RUNNING while another one of this tenant runs.
        """
        return self._caller.stream(_VERIFY_INTEGRITY, request, timeout)

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
        what voided one; TRANSFER_ALREADY_REVERSED; REVERSAL_REFUSED when an account refuses it, or
        recipes have reversed a part of it.
        """
        return await self._caller.unary(_REVERSE_TRANSFER, request, timeout)

    async def cancel_scheduled_transfer(
        self, request: ledger_v1.CancelScheduledTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.CancelScheduledTransferResponse:
        """CancelScheduledTransfer takes a scheduled transfer back while it waits, and the whole chain
        of one that is linked. Its id stays used: sent again it is answered ID_ALREADY_FAILED with
        original_result CANCELLED.

        Errors: NOT_FOUND when no transfer of this id was scheduled; SCHEDULED_TRANSFER_ENDED when
        it was posted, refused or cancelled before.
        """
        return await self._caller.unary(_CANCEL_SCHEDULED_TRANSFER, request, timeout)

    async def list_scheduled_transfers(
        self, request: ledger_v1.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListScheduledTransfersResponse:
        """ListScheduledTransfers lists transfers that were scheduled, those of one state, by when they
        are due and by transfer_id.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_SCHEDULED_TRANSFERS, request, timeout)

    def all_scheduled_transfers(
        self, request: ledger_v1.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.ScheduledTransfer]:
        """Yield the scheduled_transfers of all pages of list_scheduled_transfers, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListScheduledTransfersRequest) -> ledger_v1.ListScheduledTransfersResponse:
            return await self.list_scheduled_transfers(asked, timeout=timeout)

        return items_async(page, request, "scheduled_transfers", BY_TOKEN)

    async def put_balance_monitor(
        self, request: ledger_v1.PutBalanceMonitorRequest, *, timeout: float | None = None
    ) -> ledger_v1.PutBalanceMonitorResponse:
        """PutBalanceMonitor watches the balance of an account, or of each account whose id has a
        prefix: whenever one comes to satisfy the comparison with the threshold, one event
        `ledger.balance.crossed` tells so, and the next only after the balance has come back. The
        same monitor_id again changes the monitor. A balance that satisfies it already is told by
        `state` and by no event.

        Errors: NOT_FOUND when there is no such account; INVALID_FIELD when the threshold is in
        another currency than the account; BALANCE_MONITORS_FULL when the tenant has as many as it
        may.
        """
        return await self._caller.unary(_PUT_BALANCE_MONITOR, request, timeout)

    async def list_balance_monitors(
        self, request: ledger_v1.ListBalanceMonitorsRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListBalanceMonitorsResponse:
        """ListBalanceMonitors lists monitors, by monitor_id.

        Errors: INVALID_PAGE_TOKEN, NOT_FOUND for an account that there is none of.
        """
        return await self._caller.unary(_LIST_BALANCE_MONITORS, request, timeout)

    def all_balance_monitors(
        self, request: ledger_v1.ListBalanceMonitorsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.BalanceMonitor]:
        """Yield the monitors of all pages of list_balance_monitors, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListBalanceMonitorsRequest) -> ledger_v1.ListBalanceMonitorsResponse:
            return await self.list_balance_monitors(asked, timeout=timeout)

        return items_async(page, request, "monitors", BY_TOKEN)

    async def delete_balance_monitor(
        self, request: ledger_v1.DeleteBalanceMonitorRequest, *, timeout: float | None = None
    ) -> ledger_v1.DeleteBalanceMonitorResponse:
        """DeleteBalanceMonitor ends a monitor.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_DELETE_BALANCE_MONITOR, request, timeout)

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

    async def post_recipes(
        self, request: ledger_v1.PostRecipesRequest, *, timeout: float | None = None
    ) -> ledger_v1.PostRecipesResponse:
        """PostRecipes posts up to 1,000 facts, each as PostRecipe does, in one transaction and in
        their order, and answers for each: one that is refused leaves nothing and does not disturb
        the others. Each is known again by its recipe and reference, so that a caller that lost the
        answer sends the same call again. All of them make 8,190 transfers at most; more are refused
        with BATCH_TOO_LARGE.
        """
        return await self._caller.unary(_POST_RECIPES, request, timeout)

    async def put_recipe(
        self, request: ledger_v1.PutRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.PutRecipeResponse:
        """PutRecipe stores a recipe, as version 1 or as the next one of its name. Versions never
        change; the content that the newest one has is no new version. It is checked first, whole.

        Errors: RECIPE_INVALID, which names every fault with its place; a name that a recipe of the
        product has is one.
        """
        return await self._caller.unary(_PUT_RECIPE, request, timeout)

    async def get_recipe(
        self, request: ledger_v1.GetRecipeRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetRecipeResponse:
        """GetRecipe returns a recipe of the product or of the tenant. Errors: RECIPE_NOT_FOUND."""
        return await self._caller.unary(_GET_RECIPE, request, timeout)

    async def list_recipes(
        self, request: ledger_v1.ListRecipesRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListRecipesResponse:
        """ListRecipes lists the newest versions of all recipes, the product's among them, by name."""
        return await self._caller.unary(_LIST_RECIPES, request, timeout)

    def all_recipes(
        self, request: ledger_v1.ListRecipesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.Recipe]:
        """Yield the recipes of all pages of list_recipes, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListRecipesRequest) -> ledger_v1.ListRecipesResponse:
            return await self.list_recipes(asked, timeout=timeout)

        return items_async(page, request, "recipes", BY_TOKEN)

    async def get_account(
        self, request: ledger_v1.GetAccountRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetAccountResponse:
        """GetAccount returns an account with its balances; NOT_FOUND when there is none of that name."""
        return await self._caller.unary(_GET_ACCOUNT, request, timeout)

    async def get_transfer(
        self, request: ledger_v1.GetTransferRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetTransferResponse:
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold; also
        one that was scheduled, whether it waits, was posted, refused or cancelled. NOT_FOUND when
        there is none of this id, or one that was refused when it was sent.
        """
        return await self._caller.unary(_GET_TRANSFER, request, timeout)

    async def list_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListTransfersResponse:
        """ListTransfers lists transfers, all that are in the books or those of a reference, an
        account, a code or a time, oldest first unless asked otherwise: by recorded_at and the place
        in the books; those of a reference by the place alone. An answer looks at 5,000 transfers at
        most, so one may come without any, and others follow all the same. INVALID_FIELD for half a
        reference, NOT_FOUND for an account that there is none of.
        """
        return await self._caller.unary(_LIST_TRANSFERS, request, timeout)

    def all_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.RecordedTransfer]:
        """Yield the transfers of all pages of list_transfers, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListTransfersRequest) -> ledger_v1.ListTransfersResponse:
            return await self.list_transfers(asked, timeout=timeout)

        return items_async(page, request, "transfers", BY_TOKEN)

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
        unknown currency. With a filter an answer looks at 5,000 accounts at most, so one may come
        without any, and others follow all the same.
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
        """ListEntries lists the entries of one account, by seq, or of all accounts whose names begin
        alike, by account_id and seq. With a filter an answer looks at 5,000 entries at most, so one
        may come without any, and others follow all the same. NOT_FOUND when there is no such
        account; INVALID_FIELD unless either an account or a prefix is given.
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

    async def get_statement(
        self, request: ledger_v1.GetStatementRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetStatementResponse:
        """GetStatement returns what happened on an account in a period: opening balance, entries with
        the balance behind each, closing balance, and the sums of debits and credits. A statement is
        made once and read page by page; what is posted meanwhile is not in it. Asked again with the
        recorded_at and the last_seq that it names, it is the same for ever.

        Errors: NOT_FOUND when there is no such account; INVALID_FIELD for a last_seq that the
        account has not reached.
        """
        return await self._caller.unary(_GET_STATEMENT, request, timeout)

    def all_get_statement(
        self, request: ledger_v1.GetStatementRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.StatementEntry]:
        """Yield the entries of all pages of get_statement, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.GetStatementRequest) -> ledger_v1.GetStatementResponse:
            return await self.get_statement(asked, timeout=timeout)

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

    async def get_ledger_head(
        self, request: ledger_v1.GetLedgerHeadRequest, *, timeout: float | None = None
    ) -> ledger_v1.GetLedgerHeadResponse:
        """GetLedgerHead returns the newest block of the chain of transfers, signed. Keep it where
        nobody who can write to the database can: VerifyIntegrity proves by it that nothing up to it
        was rewritten. Blocks are closed some seconds after a transfer was posted, so the head does
        not cover the very last ones.

        Errors: NOT_FOUND when no block was closed yet; SECRETS_KEY_MISSING when the signing key
        cannot be kept, or read.
        """
        return await self._caller.unary(_GET_LEDGER_HEAD, request, timeout)

    async def list_blocks(
        self, request: ledger_v1.ListBlocksRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListBlocksResponse:
        """ListBlocks lists the blocks of the chain, by block_no."""
        return await self._caller.unary(_LIST_BLOCKS, request, timeout)

    def all_blocks(
        self, request: ledger_v1.ListBlocksRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.Block]:
        """Yield the blocks of all pages of list_blocks, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: ledger_v1.ListBlocksRequest) -> ledger_v1.ListBlocksResponse:
            return await self.list_blocks(asked, timeout=timeout)

        return items_async(page, request, "blocks", BY_TOKEN)

    def verify_integrity(
        self, request: ledger_v1.VerifyIntegrityRequest, *, timeout: float | None = None
    ) -> AsyncIterator[ledger_v1.VerifyIntegrityResponse]:
        """VerifyIntegrity looks at all books of the tenant and sends what is not as it must be, and
        how far it is. It reads page by page, while transfers go on to be posted; a caller that
        reads slowly slows it down, and one that leaves ends it. What it finds is told to the
        contract monitor too, as `ledger/integrity`.

        Errors: VERIFICATION_RUNNING while another one of this tenant runs.
        """
        return self._caller.stream(_VERIFY_INTEGRITY, request, timeout)

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
