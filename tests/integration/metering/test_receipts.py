"""The log of receipts: every accepted event is in it, in one order, whoever closes it; what was changed is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_service_pb2_grpc, receipts_pb2

from services.metering.app.log import CONTRACT
from services.metering.store import log as store
from services.metering.work.log import Closing
from services.metering.work.ordinals import Sequencing
from services.runtime import crashpoints
from services.runtime.edge.paging import encode_token
from services.runtime.edge.status import RemoteError
from tests.integration.metering.test_corrections import amendments, cancellation
from tests.support.billing.metering import NOW, batch, event, outcomes, usage_query
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls
from tollmesh_verify import (
    CONSISTENCY_FORMAT,
    RECEIPT_FORMAT,
    ReceiptsReport,
    Verdict,
    document_of,
    verify_receipts,
)

LOGGED = receipts_pb2.RECEIPT_STATUS_LOGGED
ODD = 'a"b\\c\x01\x1f\x7f\u2028é\U0001f600 \t'


class Death(BaseException):
    """What a crash point does in this test."""


@pytest.fixture
def closing(mesh: Mesh) -> Closing:
    return Closing(mesh.node.database)


@pytest.fixture
def owner(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        yield connection


async def closed(mesh: Mesh, tenant: str) -> None:
    """Bring the log up to what was committed."""
    await Sequencing(mesh.node.database).sequence(tenant)
    assert await Closing(mesh.node.database).close(tenant) is False


async def file_of(stub: Any, receipt_id: str, tree_size: int = 0) -> tuple[str, bytes]:
    """What the command line writes of a receipt."""
    asked = receipts_pb2.GetReceiptRequest(receipt_id=receipt_id, tree_size=tree_size)
    receipt = (await stub.GetReceipt(asked)).receipt
    assert receipt.status == LOGGED
    receipt.ClearField("status")
    listed = receipts_pb2.ListReceiptEventsRequest(receipt_id=receipt_id, page_size=2)
    events: list[Any] = []
    while True:
        page = await stub.ListReceiptEvents(listed)
        events += [MessageToDict(each, preserving_proto_field_name=True) for each in page.events]
        listed.page_token = page.next_page_token
        if not listed.page_token:
            break
    told = MessageToDict(receipt, preserving_proto_field_name=True)
    document = document_of(RECEIPT_FORMAT, {"receipt": told, "events": events})
    return receipt_id, json.dumps(document).encode()


async def consistency(stub: Any, first: int, second: int = 0) -> tuple[str, bytes]:
    asked = receipts_pb2.GetLogConsistencyRequest(first_tree_size=first, second_tree_size=second)
    told = MessageToDict(await stub.GetLogConsistency(asked), preserving_proto_field_name=True)
    return f"{first}-{second}", json.dumps(document_of(CONSISTENCY_FORMAT, told)).encode()


async def verified(stub: Any, *receipt_ids: str) -> ReceiptsReport:
    return verify_receipts([await file_of(stub, each) for each in receipt_ids])


async def audited(stub: Any, page_size: int = 100) -> list[receipts_pb2.LogFinding]:
    request = receipts_pb2.VerifyLogRequest(page_size=page_size)
    found: list[receipts_pb2.LogFinding] = []
    while True:
        answer = await stub.VerifyLog(request)
        found += answer.findings
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


async def test_events_amendments_and_cancellations_are_leaves_that_a_stranger_verifies(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    sent = await stub.IngestEvents(
        batch(
            event("a", quantity="007.50", metadata={"z": ODD[:9], "a": "1", "B": ODD}),
            event(ODD.replace("\0", ""), project_id="", quantity="0"),
            event("c", at=NOW + timedelta(microseconds=1), quantity="0.000000000000000001"),
            event("c"),
            event("d", sku="not.there"),
        )
    )
    assert outcomes(sent) == {"accepted": 3, "duplicate": 0, "conflict": 1, "rejected": 1}
    amended = await stub.AmendEvents(amendments(event("a", quantity="4"), reason=ODD))
    cancelled = await stub.CancelEvents(cancellation("c"))
    await closed(mesh, tenant)
    ids = sent.receipt_id, amended.receipt_id, cancelled.receipt_id
    report = await verified(stub, *ids)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, [])
    assert (report.receipts, report.events) == (3, 5)
    first = (await stub.GetReceipt(receipts_pb2.GetReceiptRequest(receipt_id=ids[0]))).receipt
    assert (first.ordinal, first.accepted, first.conflict, first.rejected) == (1, 3, 1, 1)
    assert first.tenant_id == tenant
    assert await audited(stub) == []
    kinds = [
        (await stub.GetReceipt(receipts_pb2.GetReceiptRequest(receipt_id=each))).receipt.kind
        for each in ids
    ]
    assert kinds == [1, 2, 3]


@pytest.mark.parametrize("ordinal", [-1, -(10**9), -(2**63)])
async def test_a_place_before_the_first_receipt_is_the_first(
    stub: Any, mesh: Mesh, tenant: str, ordinal: int
) -> None:
    await stub.IngestEvents(batch(event("a")))
    await closed(mesh, tenant)
    token = encode_token({"ordinal": ordinal}, "verify-log")
    answer = await stub.VerifyLog(receipts_pb2.VerifyLogRequest(page_size=10, page_token=token))
    assert (answer.receipts, [*answer.findings]) == (1, [])


async def test_a_receipt_is_pending_until_the_log_is_closed_behind_it(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with silent(mesh, monkeypatch):
        sent = await stub.IngestEvents(batch(event("a")))
        asked = receipts_pb2.GetReceiptRequest(receipt_id=sent.receipt_id)
        pending = (await stub.GetReceipt(asked)).receipt
        assert pending.status == receipts_pb2.RECEIPT_STATUS_PENDING
        assert (pending.head.tree_size, pending.retry_after.seconds) == (0, 2)
        assert not (pending.leaf_hash or pending.HasField("inclusion_proof"))
        events = receipts_pb2.ListReceiptEventsRequest(receipt_id=sent.receipt_id)
        assert len((await stub.ListReceiptEvents(events)).events) == 1
        await closed(mesh, tenant)
    done = (await stub.GetReceipt(asked)).receipt
    assert (done.status, done.ordinal, done.head.tree_size) == (LOGGED, 1, 1)
    assert (await stub.GetReceipt(asked)).receipt == done


class silent:  # noqa: N801 - reads like what it does
    """Let no background loop of the mesh close logs while the block runs: the test closes them itself."""

    def __init__(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    async def __aenter__(self) -> None:
        async def none(*_: object) -> list[str]:
            return []

        self._patch.setattr(store, "unlogged_tenants", none)

    async def __aexit__(self, *_: object) -> None:
        self._patch.undo()


async def test_the_same_batch_again_answers_the_same_receipt(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    one = batch(event("a"), event("b", sku="not.there"), event("c"))
    first = await stub.IngestEvents(one)
    again = await stub.IngestEvents(one)
    assert (again.accepted, again.duplicate, again.rejected) == (0, 2, 1)
    both = await asyncio.gather(stub.IngestEvents(one), stub.IngestEvents(one))
    assert {each.receipt_id for each in (first, again, *both)} == {first.receipt_id}
    part = await stub.IngestEvents(batch(event("a")))
    assert part.receipt_id != first.receipt_id
    assert (await stub.IngestEvents(batch(event("a")))).receipt_id == part.receipt_id
    more = await stub.IngestEvents(batch(event("a"), event("d")))
    assert more.receipt_id not in (first.receipt_id, part.receipt_id)
    await closed(mesh, tenant)
    report = await verified(stub, first.receipt_id, part.receipt_id, more.receipt_id)
    assert (report.verdict, report.events) == (Verdict.VERIFIED, 3)


@pytest.mark.parametrize("count", [3, 120], ids=["shares", "alone"])
async def test_many_that_send_one_batch_at_once_get_one_receipt(
    count: int, stub: Any, mesh: Mesh, tenant: str
) -> None:
    """Small batches share a transaction, so that the same one may be in it twice."""
    one = batch(*(event(f"e{number}") for number in range(count)))
    others = [batch(event(f"o{number}"), event("e0")) for number in range(4)]
    asked = [one, *others, one, one, others[0], one, others[1]]
    answers = await asyncio.gather(*map(stub.IngestEvents, asked))
    assert sum(each.accepted for each in answers) == count + 4
    of_one = {answers[at].receipt_id for at in (0, 5, 6, 8)}
    assert len(of_one) == 1
    assert answers[7].receipt_id == answers[1].receipt_id
    assert answers[9].receipt_id == answers[2].receipt_id
    await closed(mesh, tenant)
    report = await verified(stub, *{each.receipt_id for each in answers})
    assert (report.verdict, report.receipts, report.events) == (Verdict.VERIFIED, 5, count + 4)


async def test_every_receipt_is_proven_in_every_head_and_every_head_begins_with_the_older(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    ids = []
    for number in range(9):
        ids.append((await stub.IngestEvents(batch(event(f"e{number}")))).receipt_id)
        if number % 3 == 2:
            await closed(mesh, tenant)
    files = [await file_of(stub, ids[at], size) for size in (3, 7, 9) for at in range(size)]
    proofs = [await consistency(stub, *sizes) for sizes in ((3, 7), (7, 9), (9, 9), (1, 0))]
    report = verify_receipts([*files, *proofs])
    assert (report.verdict, report.receipts, report.findings) == (Verdict.VERIFIED, 19, [])
    heads = (await stub.ListLogHeads(receipts_pb2.ListLogHeadsRequest(page_size=1000))).heads
    assert heads[0].tree_size == 9
    assert heads[0] == (await stub.GetLogHead(receipts_pb2.GetLogHeadRequest())).head
    for each in heads:
        asked = receipts_pb2.GetLogHeadRequest(tree_size=each.tree_size)
        assert (await stub.GetLogHead(asked)).head == each
    page = await stub.ListLogHeads(receipts_pb2.ListLogHeadsRequest(page_size=1))
    rest = receipts_pb2.ListLogHeadsRequest(page_size=1000, page_token=page.next_page_token)
    assert [*page.heads, *(await stub.ListLogHeads(rest)).heads] == [*heads]


async def test_what_the_log_does_not_have_is_refused_and_says_what_it_has(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    sent = [await stub.IngestEvents(batch(event(each))) for each in "ab"]
    await closed(mesh, tenant)
    nobody = "rcp_0198c5a2-7d1e-7c55-9f3e-3d2b8a0c4e11"
    last = sent[1].receipt_id
    head, proof = receipts_pb2.GetLogHeadRequest, receipts_pb2.GetLogConsistencyRequest
    get = receipts_pb2.GetReceiptRequest
    for call, request, reason in (
        (stub.GetReceipt, get(receipt_id=nobody), "NOT_FOUND"),
        (
            stub.ListReceiptEvents,
            receipts_pb2.ListReceiptEventsRequest(receipt_id=nobody),
            "NOT_FOUND",
        ),
        (stub.GetReceipt, get(receipt_id=last, tree_size=1), "RECEIPT_BEHIND_HEAD"),
        (stub.GetReceipt, get(receipt_id=last, tree_size=3), "USAGE_ORDINAL_AHEAD"),
        (stub.GetReceipt, get(receipt_id="rcp_1"), "INVALID_FIELD"),
        (stub.GetLogHead, head(tree_size=3), "USAGE_ORDINAL_AHEAD"),
        (stub.GetLogConsistency, proof(first_tree_size=3), "USAGE_ORDINAL_AHEAD"),
        (stub.GetLogConsistency, proof(first_tree_size=2, second_tree_size=1), "INVALID_FIELD"),
        (stub.GetLogConsistency, proof(), "INVALID_FIELD"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request)
        assert RemoteError.of(refused.value, "metering").reason == reason


async def test_usage_names_the_root_of_the_log_that_it_was_read_from(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = await stub.QueryUsage(usage_query(with_log_root=True))
    head = (await stub.GetLogHead(receipts_pb2.GetLogHeadRequest())).head
    assert (empty.usage_ordinal, empty.usage_log_root) == (0, head.root_hash)
    async with silent(mesh, monkeypatch):
        sent = await stub.IngestEvents(batch(event("a")))
        assert not (await stub.QueryUsage(usage_query())).usage_log_root
        usage = await stub.QueryUsage(usage_query(with_log_root=True))
    head = (await stub.GetLogHead(receipts_pb2.GetLogHeadRequest())).head
    assert (usage.usage_ordinal, usage.usage_log_root) == (head.tree_size, head.root_hash)
    await stub.IngestEvents(batch(event("b")))
    await closed(mesh, tenant)
    before = await stub.QueryUsage(usage_query(with_log_root=True, at_ordinal=1))
    assert before.usage_log_root == usage.usage_log_root
    assert (await verified(stub, sent.receipt_id)).verdict is Verdict.VERIFIED


# ---- Who closes


async def test_many_that_close_at_once_make_one_log(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.metering.app.log.EVENTS_A_CLOSING_MAX", 3)

    async def send(name: str) -> list[str]:
        return [
            (await stub.IngestEvents(batch(event(f"{name}{n}"), event(f"{name}-{n}")))).receipt_id
            for n in range(6)
        ]

    async def close() -> None:
        for _ in range(8):
            await Sequencing(mesh.node.database).sequence(tenant)
            await Closing(mesh.node.database).close(tenant)

    sent = await asyncio.gather(*map(send, "abc"), close(), close(), close())
    await closed(mesh, tenant)
    ids = [each for some in sent if some for each in some]
    report = await verified(stub, *ids)
    assert (report.verdict, report.receipts, report.events) == (Verdict.VERIFIED, 18, 36)
    assert await audited(stub, page_size=5) == []
    assert (await stub.GetLogHead(receipts_pb2.GetLogHeadRequest())).head.tree_size == 18


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_death_between_leaves_a_log_that_goes_on(
    point: str, stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with silent(mesh, monkeypatch):
        ids = [(await stub.IngestEvents(batch(event(each)))).receipt_id for each in "abcdefg"]
        await Sequencing(mesh.node.database).sequence(tenant)
        died = 0

        def die(name: str) -> None:
            nonlocal died
            if name == f"metering.close_log.{point}" and died < 3:
                died += 1
                raise Death

        monkeypatch.setattr("services.runtime.database.crashpoint", die)
        monkeypatch.setattr("services.metering.app.log.RECEIPTS_A_CLOSING_MAX", 2)
        closing = Closing(mesh.node.database)
        while True:
            try:
                await closing.close(tenant)
            except Death:
                continue
            break
        monkeypatch.setattr("services.runtime.database.crashpoint", crashpoints.crashpoint)
    assert died == 3
    assert (await verified(stub, *ids)).verdict is Verdict.VERIFIED
    assert await audited(stub, page_size=2) == []


# ---- What was changed afterwards

EVENT = "UPDATE metering.usage_event SET {0} WHERE tenant_id = %(t)s AND request_id = 'a'"
DAMAGE = {
    "quantity": EVENT.format("quantity = quantity + 0.000000000000000001"),
    "organisation": EVENT.format("org_id = 'code'"),
    "time": EVENT.format("event_time = event_time + interval '1 microsecond'"),
    "metadata": EVENT.format('metadata = \'{"k": "v"}\''),
    "fingerprint": EVENT.format("fingerprint = gen_random_uuid()"),
    "id": EVENT.format("request_id = 'z'"),
    "receipt of an event": "UPDATE metering.usage_event SET receipt_id = (SELECT receipt_id FROM metering.receipt"
    " WHERE tenant_id = %(t)s AND ordinal = 2) WHERE tenant_id = %(t)s AND request_id = 'b'",
    "event": "DELETE FROM metering.usage_event WHERE tenant_id = %(t)s AND request_id = 'b'",
    "counts": "UPDATE metering.receipt SET duplicate = 9 WHERE tenant_id = %(t)s AND ordinal = 1",
    "receipt": "DELETE FROM metering.receipt WHERE tenant_id = %(t)s AND ordinal = 2",
    "last receipt": "DELETE FROM metering.receipt WHERE tenant_id = %(t)s AND ordinal = 4",
    "order": "UPDATE metering.receipt SET ordinal = ordinal + 10 WHERE tenant_id = %(t)s AND ordinal = 2",
    "amendment": "UPDATE metering.event_version SET quantity = 1 WHERE tenant_id = %(t)s AND version = 1",
    "reason": "UPDATE metering.event_version SET reason = '' WHERE tenant_id = %(t)s AND version = 1",
    "copy": "UPDATE metering.event_version SET quantity = 1 WHERE tenant_id = %(t)s AND version = 0",
    "leaf": "UPDATE metering.log_leaf SET hash = events_root WHERE tenant_id = %(t)s AND ordinal = 2",
    "root of events": "UPDATE metering.log_leaf SET events_root = hash WHERE tenant_id = %(t)s AND ordinal = 2",
    "last leaf": "DELETE FROM metering.log_leaf WHERE tenant_id = %(t)s AND ordinal = 4",
    "node": "UPDATE metering.log_node SET hash = sha256('') WHERE tenant_id = %(t)s AND level = 2",
    "no node": "DELETE FROM metering.log_node WHERE tenant_id = %(t)s AND level = 1",
    "head": "UPDATE metering.log_head SET root_hash = sha256('') WHERE tenant_id = %(t)s",
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_what_was_changed_afterwards_is_found(
    name: str,
    stub: Any,
    mesh: Mesh,
    tenant: str,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with silent(mesh, monkeypatch):
        await stub.IngestEvents(batch(event("a"), event("b")))
        await stub.IngestEvents(batch(event("c")))
        await stub.AmendEvents(amendments(event("c", quantity="3")))
        await stub.IngestEvents(batch(event("d")))
        await closed(mesh, tenant)
        assert await audited(stub, page_size=2) == []
        told: list[tuple[str, ...]] = []
        monkeypatch.setattr(
            "services.runtime.violations.ViolationReporter.tell",
            lambda _, *what: told.append(what),
        )
        assert owner.execute(DAMAGE[name].encode(), {"t": tenant}).rowcount
        found = await audited(stub, page_size=2)
    assert found
    assert {(contract, severity) for contract, severity, *_ in told} == {(CONTRACT, "CRITICAL")}


async def test_a_receipt_whose_events_are_gone_is_not_logged_and_holds_up_no_other_tenant(
    stub: Any,
    mesh: Mesh,
    tenant: str,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = f"{tenant}-z"
    others = metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(other))
    async with silent(mesh, monkeypatch):
        await stub.IngestEvents(batch(event("a"), event("b")))
        await others.IngestEvents(batch(event("a")))
        gone = "DELETE FROM metering.usage_event WHERE tenant_id = %s AND request_id = 'a'"
        owner.execute(gone, [tenant])
        usage = await stub.QueryUsage(usage_query(with_log_root=True))
        assert (usage.usage_ordinal, usage.usage_log_root) == (1, "")
        await Sequencing(mesh.node.database).sequence(other)

        async def both(*_: object) -> list[str]:
            return [tenant, other]

        monkeypatch.setattr(store, "unlogged_tenants", both)
        with pytest.raises(Exception, match="accepted 2 events, and 1 of it are stored"):
            await Closing(mesh.node.database).close_all()
        assert (await others.GetLogHead(receipts_pb2.GetLogHeadRequest())).head.tree_size == 1
    # So that the loop of the mesh does not fail for good.
    for table in ("receipt_counter", "receipt"):
        owner.execute(f"DELETE FROM metering.{table} WHERE tenant_id = %s".encode(), [tenant])


# ---- The same text in both languages


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.decimals(0, 10**14, places=18, allow_nan=False),
)
def test_postgres_writes_what_python_writes(
    database: DatabaseUrls, text: str, quantity: Any
) -> None:
    with psycopg.connect(database.service) as connection:
        row = connection.execute(
            "SELECT to_json(%s::text)::text, trim_scale(%s::numeric(38, 18))::text",
            [text, quantity],
        ).fetchone()
    plain = format(quantity, "f")
    assert row == (
        json.dumps(text, ensure_ascii=False),
        plain.rstrip("0").rstrip(".") if "." in plain else plain,
    )


def test_events_of_a_receipt_are_read_by_an_index(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(
            "INSERT INTO metering.usage_event (tenant_id, event_key, request_id, org_id, project_id, sku, quantity,"
            " event_time, source, fingerprint, receipt_id)"
            " SELECT 't', gen_random_uuid(), n::text, 'chat', '', 'llm.tokens', n, '2026-10-01Z', 2,"
            " gen_random_uuid(), ('00000000-0000-7000-8000-' || lpad((n / 100)::text, 12, '0'))::uuid"
            " FROM generate_series(1, 12000) AS n"
        )
        owner.execute("ANALYZE metering.usage_event, metering.event_version")
    with psycopg.connect(urls.service) as service:
        service.execute("SELECT set_config('mesh.tenant', 't', true)")
        service.execute("SELECT set_config('enable_seqscan', 'off', true)")
        for table, index, more in (
            ("usage_event", "usage_event_history_pkey", ""),
            ("event_version", "event_version_by_receipt", " AND version > 0"),
        ):
            plan = service.execute(
                f"EXPLAIN SELECT * FROM metering.{table} WHERE tenant_id = 't'"
                f" AND receipt_id = ANY ('{{00000000-0000-7000-8000-000000000007}}'::uuid[]){more}".encode()
            ).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert f"using {index} on" in text
            # Of one partition alone: the others hold no such receipt.
            assert text.count(" on usage_event_") == (table == "usage_event")
