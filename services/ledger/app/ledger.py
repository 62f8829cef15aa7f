"""The books of a tenant: what its calls do with accounts, transfers and entries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.ledger.app import balances, reads, statements
from services.ledger.app.accounts import create_accounts
from services.ledger.app.posting import post_plain, post_transfers
from services.ledger.domain.accounts import (
    Account,
    AccountFilter,
    AccountResult,
    AccountView,
    EntryColumns,
    EntryFilter,
    EntryPlace,
)
from services.ledger.domain.balances import AsOf, BalanceLine
from services.ledger.domain.holds import TransferView
from services.ledger.domain.monitors import MonitorView
from services.ledger.domain.periods import AccountingPeriod
from services.ledger.domain.plain import PlainBatch
from services.ledger.domain.posting import Verdict
from services.ledger.domain.reads import (
    EntriesWanted,
    Looked,
    PlacedTransfer,
    TransferPlace,
    TransfersWanted,
    TypedEntry,
)
from services.ledger.domain.scheduled import ScheduledView, ScheduleState
from services.ledger.domain.statements import (
    Line,
    LinePlace,
    Statement,
    StatementHead,
    StatementWanted,
)
from services.ledger.domain.transfers import Malformed, Transfer, can_share
from services.ledger.domain.trial_balance import CurrencySums
from services.ledger.store import (
    accounts,
    entries,
    monitors,
    periods,
    posting,
    scheduled,
    transfers,
)
from services.runtime.commands import Commands
from services.runtime.contracts import INVARIANT
from services.runtime.database import Database
from services.runtime.errors import NotFound
from services.runtime.groups import Groups
from services.runtime.violations import ViolationReporter

# Of transfers that come one by one: what is posted in one transaction.
GROUP_ITEMS_MAX = 500


class Ledger:
    """The books of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, commands: Commands, violations: ViolationReporter
    ) -> None:
        self._database = database
        self._commands = commands
        self._violations = violations
        self._groups = Groups("groups of transfers", self._post_at_once, items_max=GROUP_ITEMS_MAX)

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountResult]:
        """Create accounts and answer for each, in their order.

        Raises:
            DatabaseUnavailable: nothing was created.
        """
        return await self._commands.apply("ledger.create_accounts", create_accounts, accounts)

    async def post_transfers(self, batch: Sequence[Transfer | Malformed]) -> Sequence[Verdict]:
        """Post a batch in one transaction and answer for each transfer, in their order.

        A few transfers share it with those of other callers that come at the same time.

        Raises:
            DatabaseUnavailable: nothing is known to be posted; the same batch may be sent again.
        """
        if can_share(batch):
            return await self._groups.apply(batch)
        return await self._post_at_once(batch)

    async def post_plain(self, batch: PlainBatch) -> Sequence[Verdict]:
        """Post a batch of plain transfers, as `post_transfers` does."""
        return await self._commands.apply("ledger.post_transfers", post_plain, batch)

    async def _post_at_once(self, batch: Sequence[Transfer | Malformed]) -> Sequence[Verdict]:
        plain = PlainBatch.of(batch)
        if plain is not None:
            return await self.post_plain(plain)
        posted = await self._commands.apply("ledger.post_transfers", post_transfers, batch)
        return posted.verdicts

    async def get_account(self, account_id: str) -> AccountView:
        """Return an account with its balances. Raises NotFound."""
        return _existing(await accounts.find_account(self._database, account_id), account_id)

    async def get_transfer(
        self, transfer_id: UUID
    ) -> tuple[TransferView | None, ScheduledView | None]:
        """Return a transfer that is in the books, or was scheduled, or both. Raises NotFound."""
        found = await posting.find_transfer(self._database, transfer_id)
        if found is not None and found.transfer.not_before is None:
            return found, None
        view = await scheduled.find_scheduled(self._database, transfer_id)
        if found is None and view is not None and view.state is ScheduleState.POSTED:
            # Between the two looks.
            found = await posting.find_transfer(self._database, transfer_id)
        if found is None and view is None:
            raise NotFound("transfer", str(transfer_id))
        return found, view

    async def list_scheduled(
        self, state: ScheduleState, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[ScheduledView]:
        """List scheduled transfers that stand so, behind a place, by when they are due."""
        async with self._database.read() as work:
            return await scheduled.list_scheduled(work, state, after, limit)

    async def list_monitors(self, account_id: str, after: str, limit: int) -> list[MonitorView]:
        """List monitors behind `after`, by id; of one account if one is given. Raises NotFound: it isn't there."""
        async with self._database.read() as work:
            if account_id:
                await reads.check_account(work, account_id)
            return await monitors.page(work, account_id, after, limit)

    async def list_accounts(
        self, wanted: AccountFilter, after: str, size: int
    ) -> Looked[AccountView, str]:
        """List accounts behind `after`, by id."""
        async with self._database.read() as work:
            return await accounts.list_accounts(work, wanted, after, size)

    async def list_entries(
        self, wanted: EntriesWanted, after: EntryPlace | None, size: int
    ) -> Looked[TypedEntry, EntryPlace]:
        """List entries behind a place; None begins before the first. Raises NotFound: there is no such account."""
        async with self._database.read() as work:
            return await reads.list_entries(work, wanted, after, size)

    async def list_transfers(
        self, wanted: TransfersWanted, after: TransferPlace | None, size: int
    ) -> Looked[PlacedTransfer, TransferPlace]:
        """List transfers behind a place; None begins before the first. Raises NotFound: there is no such account."""
        async with self._database.read() as work:
            if wanted.account_id:
                await reads.check_account(work, wanted.account_id)
            return await transfers.list_transfers(work, wanted, after, size)

    async def statement(
        self, wanted: StatementWanted, size: int
    ) -> tuple[Statement, Looked[Line, LinePlace]]:
        """Make a statement, with its first lines.

        Raises:
            NotFound: there is no such account.
            InvalidField: the account has not so many entries.
        """
        async with self._database.read() as work:
            found = await statements.make_statement(work, wanted)
            return found, await statements.list_lines(work, found, None, size)

    async def statement_lines(
        self, found: Statement, after: LinePlace, size: int
    ) -> Looked[Line, LinePlace]:
        """List lines of a statement behind a place."""
        async with self._database.read() as work:
            return await statements.list_lines(work, found, after, size)

    async def statement_head(self, account_id: str) -> StatementHead:
        """Return what statements of an account say of it. Raises NotFound."""
        async with self._database.read() as work:
            return await statements.head_of(work, account_id)

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
