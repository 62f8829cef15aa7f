"""Whether the books hold what parties are owed by what is kept here."""

from __future__ import annotations

from services.runtime.database import Database
from services.runtime.violations import ViolationReporter
from services.settlement.domain.checks import Compared, Expected
from services.settlement.ports import Books
from services.settlement.store import earnings as store

COMMISSIONS_IN_BOOKS = "settlement/commissions-in-books"


class Checks:
    """The comparisons of the tenant that the running call acts for."""

    def __init__(self, database: Database, books: Books, violations: ViolationReporter) -> None:
        self._database = database
        self._books = books
        self._violations = violations

    async def compare(self, after: tuple[str, str, str], limit: int) -> list[Compared]:
        """Compare accounts behind a party, currency and dispute; what differs for good breaks a contract.

        Raises:
            DomainError: the ledger could not be reached.
        """
        wanted, settling = await self._expected(after, limit)
        booked = [await self._books.balance(each) for each in wanted]
        # What was posted between the two looks is no difference: what stood still before and after tells.
        again, settling_again = await self._expected(after, limit)
        still = {_key(each): each for each in again}
        found = [
            Compared(
                each,
                account_id,
                minor,
                settling or settling_again or each.posting or still.get(_key(each)) != each,
            )
            for each, (account_id, minor) in zip(wanted, booked, strict=True)
        ]
        for each in found:
            if each.differs and not each.settling:
                self._violations.tell(
                    COMMISSIONS_IN_BOOKS,
                    "CRITICAL",
                    f"account {each.account_id} holds {each.booked_minor}, but commissions and payouts come to"
                    f" {each.expected.expected_minor} (minor units)",
                    each.account_id,
                )
        return found

    async def _expected(
        self, after: tuple[str, str, str], limit: int
    ) -> tuple[list[Expected], bool]:
        async with self._database.read() as work:
            return await store.expected(work, after, limit), await store.on_their_way(work)


def _key(expected: Expected) -> tuple[str, str, str]:
    return expected.party, expected.currency_code, expected.dispute_id
