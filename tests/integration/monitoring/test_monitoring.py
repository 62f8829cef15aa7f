"""ContractMonitorService on a real server with a real Postgres."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from payments.contracts.v1 import contracts_pb2 as pb
from payments.contracts.v1 import contracts_service_pb2 as service_pb
from payments.contracts.v1.contracts_service_pb2_grpc import ContractMonitorServiceStub
from payments.type.v1 import type_pb2

from services.monitoring import manifest
from services.runtime.context import CallContext, acting
from services.runtime.edge.status import RemoteError
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:  # the generated module has it for type checkers only
    from payments.contracts.v1.contracts_service_pb2_grpc import ContractMonitorServiceAsyncStub


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [manifest.SERVICE]) as mesh:
        yield mesh


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex}"


@pytest.fixture
def stub(mesh: Mesh, tenant: str) -> ContractMonitorServiceAsyncStub:
    return ContractMonitorServiceStub(mesh.channel(tenant))


def contract(contract_id: str = "checkout/answers", **fields: Any) -> pb.Contract:
    terms: dict[str, Any] = {"title": "Answers in time", "owner": "payments", "severity": "HIGH"}
    kind = pb.CONTRACT_KIND_OBJECTIVE
    return pb.Contract(contract_id=contract_id, kind=kind, **{**terms, **fields})


def violation(request_id: str = "r1", **fields: Any) -> pb.ContractViolation:
    terms: dict[str, Any] = {
        "contract_id": "checkout/answers",
        "severity": "HIGH",
        "message": "took 932 ms",
    }
    return pb.ContractViolation(request_id=request_id, **{**terms, **fields})


async def listed(stub: ContractMonitorServiceAsyncStub, **terms: Any) -> list[pb.ContractViolation]:
    answer = await stub.ListViolations(service_pb.ListViolationsRequest(**terms))
    return list(answer.violations)


async def register(
    stub: ContractMonitorServiceAsyncStub, *contracts: pb.Contract
) -> list[service_pb.RegisterContractResult]:
    request = service_pb.RegisterContractsRequest(contracts=contracts)
    return list((await stub.RegisterContracts(request)).results)


async def record(
    stub: ContractMonitorServiceAsyncStub, *violations: pb.ContractViolation
) -> service_pb.RecordViolationsResponse:
    request = service_pb.RecordViolationsRequest(violations=violations)
    return await stub.RecordViolations(request)


# ---- contracts


async def test_a_contract_is_registered_once_and_changed_by_version(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    first = await register(stub, contract())
    again = await register(stub, contract())
    changed = await register(stub, contract(owner="risk"))
    assert [(r.outcome, r.version) for r in (*first, *again, *changed)] == [
        (type_pb2.OUTCOME_ACCEPTED, 1),
        (type_pb2.OUTCOME_DUPLICATE, 1),
        (type_pb2.OUTCOME_ACCEPTED, 2),
    ]
    answer = await stub.ListContracts(service_pb.ListContractsRequest())
    own = [item for item in answer.contracts if not item.built_in]
    assert [(item.contract_id, item.owner, item.version) for item in own] == [
        ("checkout/answers", "risk", 2)
    ]
    assert own[0].registered_at.seconds > 0


async def test_registering_leaves_an_audit_entry(
    stub: ContractMonitorServiceAsyncStub, tenant: str, database: DatabaseUrls
) -> None:
    await register(stub, contract())
    await register(stub, contract())
    await register(stub, contract(owner="risk"))
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        rows = connection.execute(
            "SELECT actor, before ->> 'owner', after ->> 'owner' FROM mesh.audit "
            "WHERE entity = 'contract' AND entity_id = 'checkout/answers' ORDER BY recorded_at"
        ).fetchall()
    actor = f"test:{tenant}"
    assert rows == [(actor, None, "payments"), (actor, "payments", "risk")]


async def test_one_bad_contract_does_not_fail_its_batch(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    results = await register(
        stub, contract("no spaces please"), contract(owner=""), contract("a/b")
    )
    assert [(r.index, r.outcome, r.reason) for r in results] == [
        (0, type_pb2.OUTCOME_REJECTED, "INVALID_FIELD"),
        (1, type_pb2.OUTCOME_REJECTED, "INVALID_FIELD"),
        (2, type_pb2.OUTCOME_ACCEPTED, ""),
    ]
    assert "contract_id" in results[0].message


async def test_the_same_id_twice_in_a_batch_is_two_versions(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    results = await register(stub, contract(), contract(owner="risk"))
    assert [r.version for r in results] == [1, 2]


async def test_contracts_page_with_the_built_in_ones(stub: ContractMonitorServiceAsyncStub) -> None:
    await register(stub, contract("a/first"), contract("z/last"))
    ids: list[str] = []
    token = ""
    while True:
        request = service_pb.ListContractsRequest(page_size=2, page_token=token)
        answer = await stub.ListContracts(request)
        assert len(answer.contracts) <= 2
        ids += [item.contract_id for item in answer.contracts]
        if not (token := answer.next_page_token):
            break
    assert ids == sorted(set(ids))
    assert {"a/first", "mesh/invariant", "orchestration/external-request", "z/last"} <= set(ids)


async def test_a_built_in_contract_registered_anew_stands_in_its_place(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    [result] = await register(stub, contract("router/timeout", owner="acquiring", severity="LOW"))
    assert (result.outcome, result.version) == (type_pb2.OUTCOME_ACCEPTED, 2)
    answer = await stub.ListContracts(service_pb.ListContractsRequest())
    [own] = [item for item in answer.contracts if item.contract_id == "router/timeout"]
    assert (own.owner, own.severity, own.built_in) == ("acquiring", "LOW", True)
    await record(stub, violation(contract_id="router/timeout", severity=""))
    assert [item.severity for item in await listed(stub)] == ["LOW"]


# ---- violations


async def test_violations_of_unknown_contracts_are_recorded_too(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    answer = await record(stub, violation(contract_id="nobody/knows"))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 0, 0)
    [item] = await listed(stub)
    assert item.contract_id == "nobody/knows"
    assert item.service == "nobody"
    assert not item.contract_registered


async def test_a_violation_comes_back_as_it_was_told(stub: ContractMonitorServiceAsyncStub) -> None:
    told = violation(service="gateway", subject_id="pay_1", severity="CRITICAL")
    told.occurred_at.FromDatetime(datetime(2023, 11, 16, 1, 2, 3, 456789, UTC))
    await register(stub, contract())
    await record(stub, told)
    [item] = await listed(stub)
    for field in ("contract_id", "request_id", "severity", "message", "service", "subject_id"):
        assert getattr(item, field) == getattr(told, field)
    assert item.occurred_at == told.occurred_at
    assert item.contract_registered
    assert item.violation_id.startswith("vio_")
    assert len(item.fingerprint) == 64


async def test_a_violation_without_severity_takes_its_contract_s(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    await register(stub, contract(severity="CRITICAL"))
    await record(stub, violation(severity=""), violation(severity="", contract_id="x/y"))
    found = {item.contract_id: item.severity for item in await listed(stub)}
    assert found == {"checkout/answers": "CRITICAL", "x/y": "MEDIUM"}


async def test_told_again_it_is_a_duplicate(stub: ContractMonitorServiceAsyncStub) -> None:
    await record(stub, violation("r1"))
    answer = await record(stub, violation("r1"), violation("r2"), violation("r2"))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 2, 0)
    assert [(p.index, p.outcome) for p in answer.problems] == [
        (0, type_pb2.OUTCOME_DUPLICATE),
        (2, type_pb2.OUTCOME_DUPLICATE),
    ]
    assert len(await listed(stub)) == 2


async def test_one_bad_violation_does_not_fail_its_batch(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    late = violation("r9")
    late.occurred_at.CopyFrom(Timestamp(seconds=10**15))
    answer = await record(stub, violation(""), violation("r1", message="zero \0 inside"), late)
    assert (answer.accepted, answer.rejected) == (1, 2)
    assert [(p.index, p.reason) for p in answer.problems] == [
        (0, "INVALID_FIELD"),
        (2, "INVALID_FIELD"),
    ]
    assert "request_id" in answer.problems[0].message
    assert "occurred_at" in answer.problems[1].message
    [item] = await listed(stub)
    assert item.message == "zero \N{REPLACEMENT CHARACTER} inside"


async def test_the_last_recorded_comes_first_and_pages_are_whole(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    for number in range(3):
        await record(stub, *(violation(f"r{number}-{i}") for i in range(4)))
    whole = [item.request_id for item in await listed(stub)]
    assert {name[:2] for name in whole[:4]} == {"r2"}
    pages: list[str] = []
    token = ""
    while True:
        request = service_pb.ListViolationsRequest(page_size=5, page_token=token)
        answer = await stub.ListViolations(request)
        pages += [item.request_id for item in answer.violations]
        if not (token := answer.next_page_token):
            break
    assert pages == whole
    assert len(set(pages)) == 12


async def test_filters(stub: ContractMonitorServiceAsyncStub) -> None:
    early = violation("r1", message="took 1 ms")
    early.occurred_at.FromDatetime(datetime(2023, 11, 16, tzinfo=UTC))
    later = violation("r2", message="took 2 ms", severity="LOW")
    later.occurred_at.FromDatetime(datetime(2023, 11, 17, tzinfo=UTC))
    other = violation("r3", contract_id="plan/coverage", message="does not add up")
    await record(stub, early, later, other)
    group = (await listed(stub, request_id="r1"))[0].fingerprint

    async def names(**terms: Any) -> set[str]:
        return {item.request_id for item in await listed(stub, **terms)}

    assert await names(contract_id="checkout/answers") == {"r1", "r2"}
    assert await names(severity="LOW") == {"r2"}
    assert await names(request_id="r3") == {"r3"}
    assert await names(fingerprint=group) == {"r1", "r2"}
    assert await names(severity="low") == {"r2"}
    assert await names(severity="CRITICAL") == set()
    # Registered, or once said to be broken: known.
    assert await names(contract_id="router/timeout") == set()
    assert await names(contract_id="checkout/answers", severity="LOW", request_id="r9") == set()
    day = type_pb2.Period()
    day.start_at.FromDatetime(datetime(2023, 11, 16, tzinfo=UTC))
    day.end_at.FromDatetime(datetime(2023, 11, 17, tzinfo=UTC))
    answer = await stub.ListViolations(service_pb.ListViolationsRequest(period=day))
    assert [item.request_id for item in answer.violations] == ["r1"]


async def _refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return RemoteError.of(caught.value, "monitoring")


async def test_filters_that_nothing_can_pass_are_refused(
    stub: ContractMonitorServiceAsyncStub,
) -> None:
    await record(stub, violation("r1"))
    for contract_id in ("none", "router/timeot", "Router/timeout", "checkout"):
        refused = await _refusal(listed(stub, contract_id=contract_id))
        assert (refused.reason, refused.metadata["id"]) == ("NOT_FOUND", contract_id)
    for severity in ("BAD", "HIGHEST", "error", "5"):
        refused = await _refusal(listed(stub, severity=severity))
        assert (refused.reason, refused.metadata["fields"]) == ("INVALID_FIELD", "severity")
        assert "LOW, MEDIUM, HIGH, CRITICAL" in refused.message


async def test_severities_are_four_in_any_case(stub: ContractMonitorServiceAsyncStub) -> None:
    answer = await record(
        stub,
        violation("r1", severity="high"),
        violation("r2", severity="Critical"),
        violation("r3", severity="warning"),
        violation("r4", severity="BAD"),
        violation("r5", severity=""),
    )
    assert (answer.accepted, answer.rejected) == (3, 2)
    assert [(problem.index, problem.reason) for problem in answer.problems] == [
        (2, "INVALID_FIELD"),
        (3, "INVALID_FIELD"),
    ]
    assert "must be one of LOW" in answer.problems[0].message
    assert {item.severity for item in await listed(stub)} == {"HIGH", "CRITICAL", "MEDIUM"}
    sound, invented = await register(
        stub, contract("a/b", severity="low"), contract("a/c", severity="urgent")
    )
    assert sound.outcome == type_pb2.OUTCOME_ACCEPTED
    assert (invented.outcome, invented.reason) == (type_pb2.OUTCOME_REJECTED, "INVALID_FIELD")


# ---- limits, access, tenants


async def test_limits_on_batches_and_tokens(stub: ContractMonitorServiceAsyncStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await record(stub, *(violation(f"r{i}") for i in range(1001)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "1000" in str(caught.value.details())
    for wrong in ("nonsense", "!"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(stub, page_token=wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError):
        await register(stub)


async def test_scopes(mesh: Mesh, tenant: str) -> None:
    reader = ContractMonitorServiceStub(mesh.channel(tenant, {"monitoring:read"}))
    assert await listed(reader) == []
    for call in (record(reader, violation()), register(reader, contract())):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_tenants_do_not_see_one_another(
    mesh: Mesh, stub: ContractMonitorServiceAsyncStub, tenant: str
) -> None:
    await register(stub, contract())
    await record(stub, violation())
    other = ContractMonitorServiceStub(mesh.channel(f"{tenant}-other"))
    assert await listed(other) == []
    answer = await other.ListContracts(service_pb.ListContractsRequest())
    assert all(item.built_in for item in answer.contracts)


# ---- what services report


async def test_a_reported_violation_arrives_once(
    mesh: Mesh, stub: ContractMonitorServiceAsyncStub, tenant: str
) -> None:
    call = CallContext(tenant, "test", frozenset(), "request-7", "correlation-7")
    with acting(call):
        for _ in range(2):  # the second stands for an event that is delivered again
            async with mesh.node.database.unit_of_work("monitoring.record_violations") as work:
                work.violation(
                    "orchestration/external-request",
                    "",
                    "amount 12 reads twice",
                    subject_id="pay_9",
                )
    await mesh.drain_events()
    [item] = await listed(stub)
    assert (item.request_id, item.severity, item.service) == (
        "request-7",
        "MEDIUM",
        "orchestration",
    )
    assert item.subject_id == "pay_9"
    assert item.contract_registered


async def test_a_refused_request_becomes_a_violation(
    mesh: Mesh, stub: ContractMonitorServiceAsyncStub
) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ListViolations(service_pb.ListViolationsRequest(page_size=5000))
    await mesh.drain_events()
    [item] = await listed(stub)
    assert item.contract_id == "mesh/request-validation"
    assert "page_size" in item.message
    assert item.subject_id.endswith("ListViolations")
