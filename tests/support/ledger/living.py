"""Books of a tenant in which everything has happened that the ledger can do, and what a verification says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from payments.ledger.v1 import integrity_pb2
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger.work.chain import Chaining
from tests.support.ledger.recipes import RecipeBooks, reference
from tests.support.mesh.serving import Mesh

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

POST, VOID, HOLD = pb.KIND_POST_PENDING, pb.KIND_VOID_PENDING, pb.KIND_PENDING
EARLIER = datetime(2026, 2, 1, tzinfo=UTC)


def usd(amount: int) -> Money:
    """An amount in cents."""
    return Money(currency_code="USD", minor_units=amount)


def move(debit: str, credit: str, amount: int | None, **more: Any) -> pb.Transfer:
    """A transfer with an id of its own."""
    return pb.Transfer(
        transfer_id=more.pop("transfer_id", "") or str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=None if amount is None else usd(amount),
        **more,
    )


def hold(debit: str, credit: str, amount: int, **more: Any) -> pb.Transfer:
    """A hold."""
    return move(debit, credit, amount, kind=HOLD, **more)


def end(
    held: pb.Transfer, kind: pb.Kind.ValueType, amount: int | None = None, **more: Any
) -> pb.Transfer:
    """What posts or voids a hold."""
    sides = {"debit": more.pop("debit", ""), "credit": more.pop("credit", "")}
    return move(**sides, amount=amount, kind=kind, pending_id=held.transfer_id, **more)


@dataclass
class LivingBooks:
    """One tenant's books.

    Attributes:
        made: transfers by the name of what they are.
    """

    mesh: Mesh
    tenant: str = field(default_factory=lambda: f"t-{uuid4().hex[:12]}")
    made: dict[str, pb.Transfer] = field(default_factory=dict)

    @property
    def stub(self) -> LedgerServiceAsyncStub:
        """The ledger, as this tenant."""
        return LedgerServiceStub(self.mesh.channel(self.tenant))

    async def open(self, *names: str, **more: Any) -> None:
        """Create accounts, all alike."""
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET, **more)
            for name in names
        ]
        request = service_pb.CreateAccountsRequest(accounts=accounts)
        for answer in (await self.stub.CreateAccounts(request)).results:
            assert answer.result == service_pb.ACCOUNT_RESULT_OK, answer

    async def post(self, *transfers: pb.Transfer) -> list[str]:
        """Post a batch and name the results."""
        request = service_pb.PostTransfersRequest(transfers=transfers)
        answer = await self.stub.PostTransfers(request)
        return [
            service_pb.TransferResult.Name(each.result).removeprefix("TRANSFER_RESULT_")
            for each in answer.results
        ]

    async def live(self, *, with_references: bool = True) -> None:
        """Do everything once. One hold is left that expires after a minute."""
        await self.open("a", "b", "c", "even", "shut", "reopened", "closing")
        limits = pb.AccountLimits(floor=usd(-50), ceiling=usd(500))
        await self.open("limited", limits=limits)
        await self.open("unused", flags=pb.AccountFlags(closed=True))
        await self._move(with_references=with_references)
        await self._hold()
        await self._close()
        if with_references:
            await self._post_by_recipe()

    async def _post_by_recipe(self) -> None:
        """Charge, pay and give back a part."""
        recipes = RecipeBooks(self.stub)
        lines = [
            {"line": "l1", "sku": "calls", "gross": usd(900), "partner": "p1", "share": usd(90)},
            {"line": "l2", "sku": "storage", "gross": usd(-200)},
        ]
        charge = reference("charge", "chg_2")
        await recipes.post("charge", charge, {"org": "acme", "lines": lines})
        paid = {
            **{"processor": "card", "debtor": "acme", "amount": usd(700), "payment": "pay_1"},
            **{"attempt": "att_1", "order": "chg_2", "person": "ada"},
        }
        await recipes.post("payment-received", reference("payment", "pay_1", "att_1"), paid)
        back = {**paid, "amount": usd(50), "attempt": "att_2", "refund_of": "att_1"}
        await recipes.post("payment-refunded", reference("payment", "pay_1", "att_2"), back)

    async def _move(self, *, with_references: bool) -> None:
        plain = move("a", "b", 100, code=7, metadata={"why": "ünïque", "b": "2", "a": "1"})
        dated = move("b", "c", 30)
        dated.effective_at.FromDatetime(EARLIER)
        reference = pb.Reference(kind="charge", id="chg_1", part="x") if with_references else None
        referred = move("a", "c", 20, reference=reference)
        first = move("c", "a", 5, linked=True)
        self.made |= {"plain": plain, "dated": dated, "referred": referred, "first": first}
        batch = [plain, dated, referred, first, move("a", "limited", 6), plain]
        assert await self.post(*batch) == [*["OK"] * 5, "EXISTS"]
        burnt = move("limited", "a", 10_000)
        lost = [move("a", "b", 1, linked=True), move("a", "nobody", 1)]
        assert await self.post(burnt, *lost) == [
            "DEBIT_ACCOUNT_ABOVE_CEILING",
            "LINKED_EVENT_FAILED",
            "CREDIT_ACCOUNT_NOT_FOUND",
        ]
        assert await self.post(burnt, lost[0]) == ["ID_ALREADY_FAILED", "LINKED_EVENT_CHAIN_OPEN"]
        owing = move("b", "even", 40)
        balancing = move("even", "b", 500, balancing_debit=True)
        again = move("b", "even", 15)
        all_of_it = move("even", "b", None, balancing_debit=True)
        self.made |= {"balancing": balancing, "all": all_of_it}
        assert await self.post(owing, balancing, again, all_of_it) == ["OK"] * 4
        reverse = service_pb.ReverseTransferRequest(
            request_id=str(uuid4()), transfer_id=plain.transfer_id, reason="twice"
        )
        answer = await self.stub.ReverseTransfer(reverse)
        self.made["reversal"] = answer.transfer.transfer

    async def _hold(self) -> None:
        whole, voided, open_one = hold("a", "b", 10), hold("b", "c", 11), hold("a", "c", 12)
        several = hold("a", "b", 20, multi_capture=True)
        left = hold("c", "b", 9, multi_capture=True)
        brief = hold("b", "a", 8, multi_capture=True)
        brief.timeout.FromSeconds(60)
        self.made |= {"whole": whole, "several": several, "open": open_one, "brief": brief}
        batch = [whole, voided, open_one, several, left, brief]
        assert await self.post(*batch) == ["OK"] * len(batch)
        part = end(whole, POST, 7, debit="a", metadata={"x": "y"})
        self.made["part"] = part
        ends = [
            part,
            end(voided, VOID),
            end(several, POST, 6),
            end(several, POST),
            end(left, POST, 4),
        ]
        assert await self.post(*ends) == ["OK"] * 5
        rest = end(left, VOID, credit="b", code=0)
        assert await self.post(rest, end(brief, POST, 3)) == ["OK"] * 2
        at_once = hold("a", "b", 3)
        assert await self.post(at_once, end(at_once, POST)) == ["OK"] * 2

    async def _close(self) -> None:
        shut = hold("a", "shut", 0, closing_credit=True)
        reopened = hold("reopened", "a", 0, closing_debit=True)
        kept = hold("a", "closing", 5, closing_credit=True)
        assert await self.post(shut, reopened, kept, end(reopened, VOID)) == ["OK"] * 4
        assert await self.post(end(kept, VOID), move("a", "closing", 1)) == ["OK"] * 2
        assert await self.post(move("a", "shut", 1)) == ["CREDIT_ACCOUNT_CLOSED"]
        posted = hold("a", "closing", 5, closing_credit=True)
        assert await self.post(posted, move("a", "c", 1)) == ["OK"] * 2

    async def seal(self) -> integrity_pb2.LedgerHead:
        """Close blocks until all is in one, and return the head."""
        chaining = Chaining(self.mesh.node.database)
        while await self.unchained():
            await chaining.close(self.tenant)
        return (await self.stub.GetLedgerHead(service_pb.GetLedgerHeadRequest())).head

    async def unchained(self) -> bool:
        """True while there are transfers outside of blocks."""
        async with self.mesh.node.database.across_tenants("test.unchained") as work:
            statement = "SELECT tenant_id, is_unchained FROM ledger.unchained('', 100000)"
            return (self.tenant, True) in (await work.execute(statement)).tuples()

    async def verify(
        self,
        *heads: integrity_pb2.LedgerHead,
        checks: Iterable[integrity_pb2.IntegrityCheck.ValueType] = (),
    ) -> list[integrity_pb2.IntegrityFinding]:
        """Verify all, and return what was found."""
        request = service_pb.VerifyIntegrityRequest(heads=heads, checks=checks)
        return [
            answer.finding
            async for answer in self.stub.VerifyIntegrity(request)
            if answer.HasField("finding")
        ]


A_MINUTE = timedelta(minutes=1)
