"""The books of a tenant: what its calls do with accounts, transfers and entries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.ledger.app import balances
from services.ledger.app.accounts import create_accounts
from services.ledger.app.posting import post_transfers
from services.ledger.domain.accounts import (
    Account,
    AccountFilter,
    AccountResult,
    AccountView,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
)
from services.ledger.domain.balances import AsOf, BalanceLine
from services.ledger.domain.holds import TransferView
from services.ledger.domain.periods import AccountingPeriod
from services.ledger.domain.posting import Verdict
from services.ledger.domain.transfers import Malformed, Transfer
from services.ledger.domain.trial_balance import CurrencySums
from services.ledger.store import accounts, entries, periods, posting
from services.runtime.commands import Commands
from services.runtime.contracts import INVARIANT
from services.runtime.database import Database
from services.runtime.errors import NotFound
from services.runtime.money import MINOR_UNITS_MAX
from services.runtime.violations import ViolationReporter


class Ledger:
    """The books of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, commands: Commands, violations: ViolationReporter
    ) -> None:
        self._database = database
        self._commands = commands
        self._violations = violations

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountResult]:
        """Create accounts and answer for each, in their order.

        Raises:
            DatabaseUnavailable: nothing was created.
        """
        return await self._commands.apply("ledger.create_accounts", create_accounts, accounts)

    async def post_transfers(self, batch: Sequence[Transfer | Malformed]) -> list[Verdict]:
        """Post a batch in one transaction and answer for each transfer, in their order.

        Raises:
            DatabaseUnavailable: nothing is known to be posted; the same batch may be sent again.
        """
        posted = await self._commands.apply("ledger.post_transfers", post_transfers, batch)
        return posted.verdicts

    async def get_account(self, account_id: str) -> AccountView:
        """Return an account with its balances. Raises NotFound."""
        return _existing(await accounts.find_account(self._database, account_id), account_id)

    async def get_transfer(self, transfer_id: UUID) -> TransferView:
        """Return a transfer that is in the books. Raises NotFound."""
        found = await posting.find_transfer(self._database, transfer_id)
        if found is None:
            raise NotFound("transfer", str(transfer_id))
        return found

    async def list_accounts(
        self, wanted: AccountFilter, after: str, limit: int
    ) -> list[AccountView]:
        """List accounts behind `after`, by id."""
        async with self._database.read() as work:
            return await accounts.list_accounts(work, wanted, after, limit)

    async def list_entries(
        self, account_id: str, after: int | None, limit: int, *, newest_first: bool
    ) -> tuple[AccountView, list[EntryView]]:
        """List entries of an account behind place `after`; None begins at the first. Raises NotFound."""
        if after is None:
            after = MINOR_UNITS_MAX if newest_first else 0
        async with self._database.read() as work:
            account = _existing(await accounts.read_account(work, account_id), account_id)
            found = await entries.list_entries(
                work, account_id, after, limit, newest_first=newest_first
            )
        return account, found

    async def export_entries(
        self, wanted: EntryFilter, after: EntryPlace, limit: int
    ) -> tuple[EntryColumns, EntryPlace | None]:
        """Read entries behind a place by column, and say behind which place more may stand.

        Raises:
            NotFound: an account that was named does not exist.
        """
        async with self._database.read() as work:
            if wanted.account_ids:
                known = await accounts.read_accounts(work, wanted.account_ids)
                for account_id in wanted.account_ids:
                    if account_id not in known:
                        raise NotFound("account", account_id)
            return await entries.export_entries(work, wanted, after, limit)

    async def account_balance(
        self, account_id: str, as_of: AsOf
    ) -> tuple[datetime, list[BalanceLine]]:
        """Add one account up, and say by when. Raises NotFound."""
        async with self._database.read() as work:
            return work.now, await balances.account_balance(work, account_id, as_of)

    async def prefix_balance(self, prefix: str, as_of: AsOf) -> tuple[datetime, list[BalanceLine]]:
        """Add the accounts up whose names begin alike, and say by when. Raises TooManyAccounts."""
        async with self._database.read() as work:
            return work.now, await balances.prefix_balance(work, prefix, as_of)

    async def list_periods(self, after: str, limit: int) -> list[AccountingPeriod]:
        """List the periods behind a currency, by currency."""
        async with self._database.read() as work:
            return await periods.list_periods(work, after, limit)

    async def trial_balance(self, as_of: AsOf) -> tuple[datetime, list[CurrencySums]]:
        """Add up all accounts in one snapshot, and say when; a difference is reported as a violation.

        Raises:
            AmountOverflow: a sum is beyond 64 bits.
        """
        async with self._database.read() as work:
            now, currencies = work.now, await balances.trial_balance(work, as_of)
        for item in currencies:
            if item.difference.minor_units:
                message = f"debits and credits of {item.currency_code} differ: {item.difference}"
                self._violations.tell(INVARIANT, "CRITICAL", message, "trial-balance")
        return now, currencies


def _existing(account: AccountView | None, account_id: str) -> AccountView:
    if account is None:
        raise NotFound("account", account_id)
    return account
