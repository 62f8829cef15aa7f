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
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold;
        NOT_FOUND when there is none of this id, or one that was refused.
        """
        return self._caller.unary(_GET_TRANSFER, request, timeout)

    def list_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListTransfersResponse:
        """ListTransfers lists transfers, all that are in the books or those of a reference, an
        account, a code or a time, oldest first unless asked otherwise: by recorded_at and the place
        in the books; those of a reference by the place alone. An answer looks at 5,000 transfers at
        most, so one may come without any, and others follow all the same. INVALID_FIELD for half a
        reference.
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
        """GetTrialBalance adds up all accounts in one snapshot of the database. Answers
        AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return self._caller.unary(_GET_TRIAL_BALANCE, request, timeout)


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
        """GetTransfer returns a transfer that is in the books, and how it stands if it is a hold;
        NOT_FOUND when there is none of this id, or one that was refused.
        """
        return await self._caller.unary(_GET_TRANSFER, request, timeout)

    async def list_transfers(
        self, request: ledger_v1.ListTransfersRequest, *, timeout: float | None = None
    ) -> ledger_v1.ListTransfersResponse:
        """ListTransfers lists transfers, all that are in the books or those of a reference, an
        account, a code or a time, oldest first unless asked otherwise: by recorded_at and the place
        in the books; those of a reference by the place alone. An answer looks at 5,000 transfers at
        most, so one may come without any, and others follow all the same. INVALID_FIELD for half a
        reference.
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
        """GetTrialBalance adds up all accounts in one snapshot of the database. Answers
        AMOUNT_OVERFLOW when a sum leaves the range of 64-bit minor units.
        """
        return await self._caller.unary(_GET_TRIAL_BALANCE, request, timeout)
