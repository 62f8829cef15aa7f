"""What breaks a rule of the ledger reaches the contract monitor, and the caller gets its answer all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from payments.events.v1.monitoring_events_pb2 import ContractViolated
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

from services.ledger import manifest as ledger
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.service import Runtime, Service
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

HEARD: list[Envelope] = []


async def hear(_work: object, envelope: Envelope) -> None:
    HEARD.append(envelope)


def build_monitor(_runtime: Runtime) -> Service:
    return Service([], [Reaction("test.monitor", ("contract.violated",), hear)])


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE, build_monitor]) as running_mesh:
        yield running_mesh


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


async def violations(mesh: Mesh, tenant: str) -> list[ContractViolated]:
    await mesh.drain_events()
    found = [event.payload for event in HEARD if event.tenant_id == tenant]
    return [fact for fact in found if isinstance(fact, ContractViolated)]


async def test_items_that_break_their_rules_are_told_once_a_call(mesh: Mesh, tenant: str) -> None:
    stub = LedgerServiceStub(mesh.channel(tenant))
    await stub.PostTransfers(
        service_pb.PostTransfersRequest(transfers=[pb.Transfer(), pb.Transfer(transfer_id="x")])
    )
    await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=[pb.Account()]))
    told = await violations(mesh, tenant)
    assert [fact.contract_id for fact in told] == ["mesh/request-validation"] * 2
    assert {fact.subject_id.rpartition("/")[2] for fact in told} == {
        "PostTransfers",
        "CreateAccounts",
    }
    assert any("2 items" in fact.message and "transfer_id" in fact.message for fact in told)


async def test_books_that_do_not_balance_are_an_alarm(
    mesh: Mesh, tenant: str, database: DatabaseUrls
) -> None:
    stub = LedgerServiceStub(mesh.channel(tenant))
    account = pb.Account(account_id="a", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
    await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=[account]))
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute("UPDATE ledger.balance SET debits_posted = 1 WHERE tenant_id = %s", (tenant,))
    found = await stub.GetTrialBalance(service_pb.GetTrialBalanceRequest())
    assert found.trial_balance.currencies[0].difference.minor_units == 1
    [fact] = await violations(mesh, tenant)
    assert (fact.contract_id, fact.severity) == ("mesh/invariant", "CRITICAL")
