"""Each kind of damage to the books is found and named, whoever had the rights to do it; clean books are clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from payments.events.v1.monitoring_events_pb2 import ContractViolated
from payments.ledger.v1 import integrity_pb2
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from pydantic import SecretStr

from services.ledger import manifest as ledger
from services.ledger.app import integrity
from services.ledger.app.posting import expire_hold
from services.ledger.app.recipes import Recipes
from services.ledger.domain.findings import Check
from services.ledger.domain.transfers import Transfer, fingerprint
from services.ledger.store import integrity as store
from services.ledger.work.chain import Chaining
from services.runtime.clock import ManualClock
from services.runtime.context import CallContext, acting
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.manifests import Build, Manifest
from services.runtime.secrets import new_key
from services.runtime.service import Runtime, Service
from tests.support.ledger.living import A_MINUTE, LivingBooks, move, usd
from tests.support.ledger.recipes import parameters, reference
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEARD: list[Envelope] = []


async def hear(_work: object, envelope: Envelope) -> None:
    HEARD.append(envelope)


def build_monitor(_runtime: Runtime) -> Service:
    return Service([], [Reaction("test.monitor", ("contract.violated",), hear)])


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls, clock: ManualClock) -> AsyncIterator[Mesh]:
    served: list[Manifest | Build] = [ledger.SERVICE, build_monitor]
    keys = SecretStr(new_key())
    async with running(database, served, clock=clock, secrets_keys=keys) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh, clock: ManualClock) -> LivingBooks:
    made = LivingBooks(mesh)
    await made.live()
    clock.advance(2 * A_MINUTE)
    # Its own alone: holds of books that were damaged before may not be expirable any more.
    with acting(CallContext(made.tenant, "test", frozenset(), "r", "r")):
        async with mesh.node.database.unit_of_work("ledger.expire_hold") as work:
            await expire_hold(work, UUID(made.made["brief"].transfer_id))
    return made


@pytest.fixture
def owner(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        yield connection


def checks(found: list[integrity_pb2.IntegrityFinding]) -> set[str]:
    return {
        integrity_pb2.IntegrityCheck.Name(each.integrity_check)
        .removeprefix("INTEGRITY_CHECK_")
        .lower()
        for each in found
    }


@dataclass
class Vandal:
    """Who has the rights of the tables' owner, and one tenant's books."""

    owner: psycopg.Connection
    books: LivingBooks

    def do(self, statement: str, **values: Any) -> int:
        """Change rows, and return how many."""
        given = {"tenant": self.books.tenant, **values}
        return self.owner.execute(statement, given).rowcount

    def id_of(self, name: str) -> str:
        return self.books.made[name].transfer_id

    def entry_amount(self) -> None:
        assert self.do(
            "UPDATE ledger.entry SET amount_minor = 101 WHERE tenant_id = %(tenant)s AND account_id = 'a'"
            " AND transfer_id = %(id)s",
            id=self.id_of("plain"),
        )

    def entry_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.entry WHERE tenant_id = %(tenant)s AND account_id = 'c' AND seq = 2"
        )

    def balance(self) -> None:
        assert self.do(
            "UPDATE ledger.balance SET debits_posted = debits_posted + 1"
            " WHERE tenant_id = %(tenant)s AND account_id = 'a'"
        )

    def balance_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.balance WHERE tenant_id = %(tenant)s AND account_id = 'shut'"
        )

    def limit(self) -> None:
        assert self.do(
            "UPDATE ledger.balance SET ceiling_minor = 9999"
            " WHERE tenant_id = %(tenant)s AND account_id = 'limited'"
        )

    def reopened(self) -> None:
        assert self.do(
            "UPDATE ledger.balance SET closed = false WHERE tenant_id = %(tenant)s AND account_id = 'shut'"
        )

    def swapped(self) -> None:
        assert self.do(
            "UPDATE ledger.transfer SET debit_account_id = credit_account_id, credit_account_id = debit_account_id"
            " WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("referred"),
        )

    def metadata(self) -> None:
        assert self.do(
            'UPDATE ledger.transfer SET metadata = \'{"why": "other"}\''
            " WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("plain"),
        )

    def reference(self) -> None:
        assert self.do(
            "UPDATE ledger.transfer SET reference_id = 'chg_2' WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("referred"),
        )

    def metadata_of_part(self) -> None:
        assert self.do(
            "UPDATE ledger.transfer SET metadata = '{}' WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("part"),
        )

    def transfer_deleted(self) -> None:
        for table in ("entry", "transfer"):
            assert self.do(
                f"DELETE FROM ledger.{table} WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
                id=self.id_of("dated"),
            )

    def entry_stray(self) -> None:
        assert self.do(
            "UPDATE ledger.entry SET transfer_id = %(other)s"
            " WHERE tenant_id = %(tenant)s AND account_id = 'limited'",
            other=uuid4(),
        )

    def seq_gap(self) -> None:
        assert self.do(
            "UPDATE ledger.entry SET seq = seq + 1 WHERE tenant_id = %(tenant)s AND account_id = 'limited'"
        )

    def effective_at_of_entry(self) -> None:
        assert self.do(
            "UPDATE ledger.entry SET effective_at = effective_at - interval '1 day'"
            " WHERE tenant_id = %(tenant)s AND account_id = 'b' AND transfer_id = %(id)s",
            id=self.id_of("dated"),
        )

    def effective_at_of_all(self) -> None:
        for table in ("entry", "transfer"):
            assert self.do(
                f"UPDATE ledger.{table} SET effective_at = effective_at - interval '1 day'"
                " WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
                id=self.id_of("plain"),
            )

    def remaining(self) -> None:
        assert self.do(
            "UPDATE ledger.hold SET remaining_minor = 11 WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("open"),
        )

    def hold_state(self) -> None:
        assert self.do(
            "UPDATE ledger.hold SET state = 3 WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("several"),
        )

    def hold_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.hold WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("whole"),
        )

    def reversal(self) -> None:
        assert self.do(
            "UPDATE ledger.transfer SET reverses_id = %(other)s WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("reversal"),
            other=self.id_of("dated"),
        )

    def note_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.reversal WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("reversal"),
        )

    def note_of_leg_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.reversal WHERE tenant_id = %(tenant)s AND transfer_id <> %(id)s",
            id=self.id_of("reversal"),
        )

    def note_lowered(self) -> None:
        assert self.do(
            "UPDATE ledger.reversal SET amount_minor = amount_minor - 1"
            " WHERE tenant_id = %(tenant)s AND transfer_id <> %(id)s",
            id=self.id_of("reversal"),
        )

    def note_forged(self) -> None:
        assert self.do(
            "INSERT INTO ledger.reversal (tenant_id, reversed_id, transfer_id, amount_minor)"
            " VALUES (%(tenant)s, %(reversed)s, %(id)s, 20)",
            reversed=self.id_of("dated"),
            id=self.id_of("referred"),
        )
        # Of 30 that were posted, 40 are taken back.
        assert self.do(
            "INSERT INTO ledger.reversal (tenant_id, reversed_id, transfer_id, amount_minor)"
            " VALUES (%(tenant)s, %(reversed)s, %(id)s, 20)",
            reversed=self.id_of("dated"),
            id=self.id_of("several"),
        )

    def note_of_nobody(self) -> None:
        assert self.do(
            "INSERT INTO ledger.reversal (tenant_id, reversed_id, transfer_id, amount_minor)"
            " VALUES (%(tenant)s, gen_random_uuid(), gen_random_uuid(), 1)",
        )

    def id_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.transfer_id WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
            id=self.id_of("balancing"),
        )

    def id_forged(self) -> None:
        assert self.do(
            "INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result)"
            " SELECT tenant_id, gen_random_uuid(), fingerprint, 1 FROM ledger.transfer_id"
            " WHERE tenant_id = %(tenant)s LIMIT 1"
        )

    def block_hash(self) -> None:
        assert self.do(
            "UPDATE ledger.block SET hash = sha256('other') WHERE tenant_id = %(tenant)s "
            " AND block_no = (SELECT max(block_no) FROM ledger.block WHERE tenant_id = %(tenant)s)"
        )

    def block_deleted(self) -> None:
        assert self.do("DELETE FROM ledger.block WHERE tenant_id = %(tenant)s")

    def posting_parameters(self) -> None:
        assert self.do(
            "UPDATE ledger.posting SET parameters = jsonb_set(parameters, '{amount}', '{\"amount\": [\"USD\", 701]}')"
            " WHERE tenant_id = %(tenant)s AND recipe = 'payment-received'"
        )

    def posting_shortened(self) -> None:
        assert self.do(
            "UPDATE ledger.posting SET transfer_ids = transfer_ids[1:1], legs = legs[1:1], groups = groups[1:1]"
            " WHERE tenant_id = %(tenant)s AND recipe = 'charge'"
        )

    def posting_deleted(self) -> None:
        assert self.do(
            "DELETE FROM ledger.posting WHERE tenant_id = %(tenant)s AND recipe = 'charge'"
        )

    def key(self) -> None:
        assert self.do(
            "UPDATE ledger.signing_key SET public_key = sha256('other') WHERE tenant_id = %(tenant)s"
        )


# What is done, by which checks it is found, and of whom each of them says so (a name of what was made, or an account).
DAMAGES: dict[str, tuple[Callable[[Vandal], None], set[str], str]] = {
    "an entry's amount": (
        Vandal.entry_amount,
        {"entries", "balances", "transfers", "chain"},
        "plain",
    ),
    "an entry is gone": (
        Vandal.entry_deleted,
        {"entries", "balances", "transfers", "chain"},
        "c",
    ),
    "a balance": (Vandal.balance, {"currency_sums", "balances"}, "a"),
    "a balance is gone": (Vandal.balance_deleted, {"balances"}, "shut"),
    "the limit of a balance": (Vandal.limit, {"balances"}, "limited"),
    "an account is open": (Vandal.reopened, {"pending_sums"}, "shut"),
    "the sides of a transfer": (
        Vandal.swapped,
        {"transfers", "transfer_ids", "chain"},
        "referred",
    ),
    "metadata": (Vandal.metadata, {"transfer_ids", "chain"}, "plain"),
    "metadata of what was posted of a hold": (
        Vandal.metadata_of_part,
        {"transfer_ids", "chain"},
        "part",
    ),
    "a reference": (Vandal.reference, {"transfer_ids", "chain"}, "referred"),
    "a transfer is gone with its entries": (
        Vandal.transfer_deleted,
        {"entries", "balances", "transfer_ids", "chain"},
        "dated",
    ),
    "an entry of nobody": (Vandal.entry_stray, {"entries", "transfers", "chain"}, "limited"),
    "a gap in the numbers": (Vandal.seq_gap, {"entries", "chain"}, "limited"),
    "when an entry takes effect": (
        Vandal.effective_at_of_entry,
        {"transfers", "chain"},
        "dated",
    ),
    "when a transfer takes effect": (
        Vandal.effective_at_of_all,
        {"transfer_ids", "chain"},
        "plain",
    ),
    "what is left of a hold": (Vandal.remaining, {"holds", "pending_sums"}, "open"),
    "how a hold stands": (Vandal.hold_state, {"holds"}, "several"),
    "a hold is gone": (Vandal.hold_deleted, {"holds"}, "whole"),
    "what a reversal reverses": (
        Vandal.reversal,
        {"reversals", "transfer_ids", "chain"},
        "reversal",
    ),
    "what a reversal takes back is not noted": (Vandal.note_deleted, {"reversals"}, "reversal"),
    "what a leg takes back is not noted": (Vandal.note_of_leg_deleted, {"postings"}, ""),
    "less is noted than a leg takes back": (
        Vandal.note_lowered,
        {"postings", "reversals"},
        "",
    ),
    "more is noted than was posted": (Vandal.note_forged, {"reversals"}, "referred"),
    "a note of nobody": (Vandal.note_of_nobody, {"reversals"}, ""),
    "an id could be used again": (Vandal.id_deleted, {"transfer_ids"}, "balancing"),
    "an id without a transfer": (Vandal.id_forged, {"transfer_ids"}, ""),
    "the parameters of a posting": (Vandal.posting_parameters, {"postings"}, ""),
    "transfers of a posting": (Vandal.posting_shortened, {"postings"}, ""),
    "a posting is gone": (Vandal.posting_deleted, {"postings"}, ""),
    "a block's hash": (Vandal.block_hash, {"chain", "heads"}, ""),
    "blocks are gone": (Vandal.block_deleted, {"heads"}, ""),
    "the public key": (Vandal.key, {"heads"}, ""),
}


async def test_nothing_is_found_in_books_in_which_everything_happened(books: LivingBooks) -> None:
    assert await books.verify() == []
    head = await books.seal()
    assert await books.verify(head) == []


async def test_nothing_is_found_page_by_page(
    books: LivingBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await books.seal()
    for name in (
        *("ACCOUNTS", "ENTRIES", "TRANSFERS", "IDS", "HOLDS"),
        *("POSTINGS", "REVERSALS", "BLOCKS", "HEADS"),
    ):
        for size in (1, 2, 3):
            monkeypatch.setattr(integrity, f"{name}_A_PAGE", size)
            assert await books.verify(head) == []


def paid(attempt: str, **more: Any) -> dict[str, Any]:
    """The parameters of a payment, or of what gives it back."""
    by = {"processor": "card", "debtor": "acme", "payment": "pay_9", "order": "chg_9"}
    return {**by, "amount": usd(700), "attempt": attempt, "person": "ada", **more}


def paid_fact(recipe: str, attempt: str, **more: Any) -> service_pb.RecipePosting:
    return service_pb.RecipePosting(
        recipe=recipe,
        reference=reference("payment", "pay_9", attempt),
        parameters=parameters(paid(attempt, **more)),
    )


# Of another processor than the payment that it gives back: what it was booked on tells whether that was known.
RECEIVED = paid_fact("payment-received", "att_1")
REFUNDED = paid_fact("payment-refunded", "att_2", processor="bank", refund_of="att_1")


@pytest.mark.parametrize("calls", [[[REFUNDED], [RECEIVED]], [[REFUNDED, RECEIVED]]])
async def test_what_came_behind_a_posting_was_nothing_to_it(
    calls: list[list[service_pb.RecipePosting]], mesh: Mesh, owner: psycopg.Connection
) -> None:
    books = LivingBooks(mesh)
    results = [
        result
        for facts in calls
        for result in (
            await books.stub.PostRecipes(service_pb.PostRecipesRequest(postings=facts))
        ).results
    ]
    legs = [leg.transfer.transfer for each in results for leg in each.posting.legs]
    assert not {legs[0].debit_account_id, legs[0].credit_account_id} & {
        legs[1].debit_account_id,
        legs[1].credit_account_id,
    } - {"receivable:acme:USD"}
    assert await books.verify() == []
    # The same two the other way round are what the recipe does not say.
    vandal = Vandal(owner, books)
    assert vandal.do(
        "UPDATE ledger.transfer SET batch_no = -batch_no, position = -position"
        " WHERE tenant_id = %(tenant)s"
    )
    found = await books.verify(checks=[integrity_pb2.INTEGRITY_CHECK_POSTINGS])
    assert "account" in found[0].message
    assert {each.transfer_id for each in found} == {legs[0].transfer_id}


async def test_a_transfer_that_stands_for_a_posting_and_came_behind_it_was_nothing_to_it(
    mesh: Mesh,
) -> None:
    books = LivingBooks(mesh)
    await books.open("a", "b")
    standing = move("a", "b", 700)
    refunded = paid_fact(
        "payment-refunded", "att_2", refund_of="att_1", charged_by=standing.transfer_id
    )
    answer = await books.stub.PostRecipes(service_pb.PostRecipesRequest(postings=[refunded]))
    assert answer.results[0].posting.legs
    assert await books.post(standing) == ["OK"]
    assert await books.verify() == []


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_found_and_named(
    damage: str, books: LivingBooks, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, expected, subject = DAMAGES[damage]
    head = await books.seal()

    async def nothing(_chaining: Chaining, _tenant_id: str) -> bool:
        return False

    # Else a chain that is gone would be made anew meanwhile.
    monkeypatch.setattr(Chaining, "close", nothing)
    do(Vandal(owner, books))
    found = await books.verify()
    assert checks(found) == expected, found
    if subject:
        named = books.made[subject].transfer_id if subject in books.made else subject
        assert named in {name for each in found for name in (each.transfer_id, each.account_id)}
    assert {each.severity for each in found} <= {"CRITICAL", "HIGH"}
    for name in ("ACCOUNTS", "ENTRIES", "TRANSFERS", "IDS", "HOLDS"):
        monkeypatch.setattr(integrity, f"{name}_A_PAGE", 2)
    assert await books.verify() == found, "whatever the pages are"
    # Of what was sealed a head from outside says so too, unless only what changes anyway was changed.
    assert checks(await books.verify(head)) == expected


async def test_a_rewritten_history_is_found_by_a_head_that_was_kept(
    books: LivingBooks, owner: psycopg.Connection
) -> None:
    kept = await books.seal()
    vandal = Vandal(owner, books)
    plain = books.made["plain"]
    vandal.metadata()
    other = Transfer(
        UUID(plain.transfer_id), "a", "b", "USD", 100, code=7, metadata={"why": "other"}
    )
    assert vandal.do(
        "UPDATE ledger.transfer_id SET fingerprint = %(content)s WHERE tenant_id = %(tenant)s AND transfer_id = %(id)s",
        content=fingerprint(other),
        id=plain.transfer_id,
    )
    for table in ("block", "signed_head"):
        assert vandal.do(f"DELETE FROM ledger.{table} WHERE tenant_id = %(tenant)s")
    rewritten = await books.seal()
    assert (rewritten.transfer_count, rewritten.key_id) == (kept.transfer_count, kept.key_id)
    assert await books.verify(rewritten) == []
    found = await books.verify(kept)
    assert checks(found) == {"heads"}
    assert all(each.expected and each.expected != each.found for each in found)
    assert {each.block_no for each in found} == {kept.block_no}


async def test_a_head_that_was_changed_proves_nothing(books: LivingBooks, mesh: Mesh) -> None:
    head = await books.seal()
    changed = integrity_pb2.LedgerHead()
    changed.CopyFrom(head)
    changed.hash = "0" * 64
    messages = [each.message for each in await books.verify(changed)]
    assert any("signature" in message for message in messages)
    other = LivingBooks(mesh)
    await other.open("a", "b")
    await other.post(move("a", "b", 1))
    await other.seal()
    (finding,) = await other.verify(head)
    assert "other books" in finding.message


async def test_only_what_is_asked_for_is_told(
    books: LivingBooks, owner: psycopg.Connection
) -> None:
    vandal = Vandal(owner, books)
    vandal.balance()
    vandal.remaining()
    asked = [integrity_pb2.INTEGRITY_CHECK_HOLDS]
    assert checks(await books.verify(checks=asked)) == {"holds"}


async def test_what_is_found_is_an_alarm(
    books: LivingBooks, owner: psycopg.Connection, mesh: Mesh
) -> None:
    Vandal(owner, books).balance()
    found = await books.verify()
    await mesh.node.violations.drain()
    await mesh.drain_events()
    told = [event.payload for event in HEARD if event.tenant_id == books.tenant]
    facts = [fact for fact in told if isinstance(fact, ContractViolated)]
    assert len(facts) == len(found) == 2
    assert {(fact.contract_id, fact.severity) for fact in facts} == {
        ("ledger/integrity", "CRITICAL")
    }
    assert any("balances: a: the debits" in fact.message for fact in facts)


async def test_who_leaves_ends_the_verification_and_who_comes_meanwhile_is_refused(
    books: LivingBooks, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    real = store.ids_page

    async def slow(*arguments: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(store, "ids_page", slow)
    first = books.stub.VerifyIntegrity(service_pb.VerifyIntegrityRequest())
    reading = asyncio.create_task(_read(first))
    await reached.wait()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.verify()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    other = LivingBooks(mesh)
    go_on.set()
    assert await other.verify() == [], "another tenant's is its own"
    assert (await reading)[-1].progress.done
    go_on.clear()
    reached.clear()
    left = books.stub.VerifyIntegrity(service_pb.VerifyIntegrityRequest())
    reading = asyncio.create_task(_read(left))
    await reached.wait()
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await books.verify() == []
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)


async def _read(call: Any) -> list[Any]:
    return [answer async for answer in call]


async def test_pages_are_read_when_they_are_asked_for(
    books: LivingBooks, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is slow slows the verification down, and no transaction waits for it."""
    read = 0
    real = store.ids_page

    async def counted(*arguments: Any) -> Any:
        nonlocal read
        read += 1
        return await real(*arguments)

    monkeypatch.setattr(store, "ids_page", counted)
    monkeypatch.setattr(integrity, "IDS_A_PAGE", 1)
    stream = integrity.Integrity(mesh.node.database, Recipes([]), mesh.node.violations)
    asked = integrity.Asked(frozenset({Check.TRANSFER_IDS}))
    with acting(CallContext(books.tenant, "test", frozenset(), "r", "r")):
        async with aclosing(stream.verify(asked)) as answers:
            while read < 3:
                await anext(answers)
            await asyncio.sleep(0.05)
            assert read == 3
            async with mesh.node.database.unit_of_work("test.idle") as work:
                statement = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND state = 'idle in transaction' AND query LIKE '%ids_page%'"
                )
                assert (await work.execute(statement)).scalar_one() == 0
