"""REST, end to end: the real facade in front of the real mesh."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from services.runtime.access import MeshTokens, Principal
from services.runtime.edge.interceptors import Call, Pipeline
from tests.support.events.outside import faults, payload_of
from tests.support.http.rest import Rest, facade
from tests.support.mesh.serving import MESH_SECRET, Mesh

JANUARY = {"start_at": "2026-01-01T00:00:00Z", "end_at": "2026-02-01T00:00:00Z"}
CATALOG: dict[str, Any] = {
    "skus": [
        {
            "sku": "sms",
            "type": "SKU_TYPE_ACTION",
            "unit": "message",
            "aggregation": "AGGREGATION_SUM",
        }
    ],
    "plans": [
        {
            "plan_id": "p",
            "name": "P",
            "currency_code": "USD",
            "status": "STATUS_ACTIVE",
            # A number where the schema has a decimal string: its own text is taken.
            "prices": [{"sku": "sms", "price": {"per_unit": {"unit_amount": 0.05}}}],
        }
    ],
    "entitlements": [{"org_id": "acme", "plan_id": "p", "effective_at": "2025-01-01T00:00:00Z"}],
}


def event(request_id: str, quantity: Any, sku: str = "sms") -> dict[str, Any]:
    return {
        "request_id": request_id,
        "sku": sku,
        "quantity": quantity,
        "org_id": "acme",
        "project_id": "web",
        "time": "2026-01-10T12:00:00Z",
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that calls have in the mesh."""
    ids: list[str] = []
    enter = Pipeline._enter

    async def noted(pipeline: Pipeline, call: Call) -> Principal:
        try:
            return await enter(pipeline, call)
        finally:
            ids.append(call.who.request_id if call.who else "")

    monkeypatch.setattr(Pipeline, "_enter", noted)
    return ids


def new_id() -> str:
    return str(uuid.uuid4())


async def opened(rest: Rest) -> None:
    """Apply the catalogue and open the ingest window back to January."""
    applied = await rest.acall(
        "POST", "/v1/pricing/catalog", {"request_id": new_id(), "catalog": CATALOG}
    )
    assert applied.status == 200, applied.body
    settings = await rest.acall(
        "PATCH",
        "/v1/metering/ingest-settings",
        {"request_id": new_id(), "accept_past": "315360000s"},
    )
    assert settings.status == 200, settings.body


async def charged(rest: Rest, request_id: str | None = None) -> dict[str, Any]:
    made = await rest.acall(
        "POST",
        "/v1/billing/charges",
        {"request_id": request_id or new_id(), "org_id": "acme", "period": JANUARY},
    )
    assert made.status == 201, made.body
    charge: dict[str, Any] = made.json()
    assert made.headers["location"] == f"/v1/billing/charges/{charge['charge_id']}"
    return charge


async def test_health_and_description_need_no_key(url: str) -> None:
    nobody = Rest(url)
    for path in ("/healthz", "/readyz"):
        health = await nobody.acall("GET", path)
        give_up_at = time.monotonic() + 20
        while health.status == 503 and time.monotonic() < give_up_at:
            await asyncio.sleep(0.1)  # a database that is slow to answer on a busy machine
            health = await nobody.acall("GET", path)
        assert (health.status, health.json()) == (200, {"status": "SERVING"})
    described = await nobody.acall("GET", "/openapi.json")
    assert described.status == 200
    assert "/v1/billing/charges" in described.json()["paths"]


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic d3Jvbmc=", "Mesh x"])
async def test_wrong_keys_get_401(url: str, header: str) -> None:
    refused = await Rest(url).acall("GET", "/v1/billing/charges", headers={"Authorization": header})
    assert refused.status == 401, refused.body
    assert refused.reason == "UNAUTHENTICATED"
    assert refused.json()["code"] == 16
    assert refused.headers["www-authenticate"] == 'Bearer realm="tollmesh"'


@pytest.mark.parametrize("scheme", ["Mesh", "mesh", "MESH", "mEsH"])
async def test_a_good_mesh_token_is_refused_from_outside(url: str, scheme: str) -> None:
    token = MeshTokens(MESH_SECRET).issue(Principal("acme", "mesh:billing", frozenset({"*"})))
    for path in ("/v1/billing/charges", "/v1/access/keys"):
        headers = {"Authorization": f"{scheme} {token}"}
        refused = await Rest(url).acall("GET", path, headers=headers)
        assert (refused.status, refused.reason) == (401, "UNAUTHENTICATED"), refused.body
        assert refused.detail("ErrorInfo")["metadata"] == {"cause": "mesh_token_outside"}
        assert token not in refused.body.decode()


async def test_missing_scope_gets_403(caller: Callable[..., Awaitable[Rest]]) -> None:
    reader = await caller("billing:read")
    assert (await reader.acall("GET", "/v1/billing/charges")).status == 200
    refused = await reader.acall("GET", "/v1/ledger/accounts")
    assert (refused.status, refused.reason) == (403, "SCOPE_MISSING")
    assert refused.detail("ErrorInfo")["metadata"]["scope"] == "ledger:read"


async def test_usage_to_charge_to_ledger(rest: Rest) -> None:
    await opened(rest)
    batch = [event("e1", 100), event("e2", "20.5"), event("e3", 1, sku="fax")]
    ingested = await rest.acall("POST", "/v1/metering/events", batch)
    assert ingested.status == 202, ingested.body
    answer = ingested.json()
    counts = {name: int(answer[name]) for name in ("accepted", "duplicate", "conflict", "rejected")}
    assert counts == {"accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 1}
    assert [item["reason"] for item in answer["problems"]] == ["UNKNOWN_SKU"]
    assert answer["problems"][0]["request_id"] == "e3"

    again = (await rest.acall("POST", "/v1/metering/events", batch[:2])).json()
    assert (int(again["accepted"]), int(again["duplicate"])) == (0, 2)

    usage = await rest.acall(
        "GET",
        "/v1/metering/usage?org_id=acme&skus=sms&aggregation=AGGREGATION_SUM"
        f"&period.start_at={JANUARY['start_at']}&period.end_at={JANUARY['end_at']}",
    )
    assert usage.status == 200, usage.body
    assert [row["value"] for row in usage.json()["rows"]] == ["120.5"]

    charge = await charged(rest)
    # 120.5 x 0.05 = 6.025, half up
    assert charge["total"] == {"currency_code": "USD", "minor_units": "603"}
    fetched = await rest.acall("GET", f"/v1/billing/charges/{charge['charge_id']}")
    assert (fetched.status, fetched.json()) == (200, charge)

    account = await rest.acall("GET", "/v1/ledger/accounts/receivable:acme:USD")
    assert account.status == 200, account.body
    assert account.json()["balances"]["debits_posted"] == "603"
    balance = (await rest.acall("GET", "/v1/ledger/trial-balance")).json()
    assert [item["difference"]["minor_units"] for item in balance["currencies"]] == ["0"]


async def test_one_bad_event_never_fails_its_batch(rest: Rest) -> None:
    await opened(rest)
    batch = json.dumps([event("b1", 1), event("b2", -1), event("b3", "2")])
    # Written by hand: json.dumps would show these as floats.
    for index, number in enumerate(("1e3", "12345678901234567", "0.1234567890123456789")):
        odd = json.dumps(event(f"b{index + 4}", 0)).replace(
            '"quantity": 0', f'"quantity": {number}'
        )
        batch = batch.removesuffix("]") + f", {odd}]"
    answer = await rest.acall("POST", "/v1/metering/events", batch.encode())
    assert answer.status == 202, answer.body
    content = answer.json()
    assert (int(content["accepted"]), int(content["rejected"])) == (2, 4)
    assert [item["request_id"] for item in content["problems"]] == ["b2", "b4", "b5", "b6"]


async def test_idempotency_key(rest: Rest) -> None:
    await opened(rest)
    await rest.acall("POST", "/v1/metering/events", [event("k1", 10)])
    wanted = {"org_id": "acme", "period": JANUARY}
    key = {"Idempotency-Key": "january's bill"}
    first = await rest.acall("POST", "/v1/billing/charges", wanted, key)
    assert first.status == 201, first.body
    again = await rest.acall("POST", "/v1/billing/charges", wanted, key)
    assert (again.status, again.json()) == (201, first.json())

    other = await rest.acall("POST", "/v1/billing/charges", wanted | {"org_id": "other"}, key)
    assert (other.status, other.reason) == (409, "REQUEST_ID_REUSED")
    both = await rest.acall("POST", "/v1/billing/charges", wanted | {"request_id": new_id()}, key)
    assert (both.status, both.reason) == (400, "IDEMPOTENCY_KEY_MISMATCH")
    none = await rest.acall("POST", "/v1/billing/charges", wanted)
    assert (none.status, none.reason) == (400, "INVALID_FIELD")
    assert [item["field"] for item in none.detail("BadRequest")["field_violations"]] == [
        "request_id"
    ]


async def test_one_item_that_does_not_read_never_fails_its_batch(rest: Rest) -> None:
    await opened(rest)
    half = {"k": "\ud800"}
    accounts: list[dict[str, Any]] = [
        {"account_id": name, "currency_code": "USD", "type": "ACCOUNT_TYPE_ASSET"}
        for name in ("halves:a", "halves:b", "halves:c")
    ]
    accounts[1] |= {"metadata": half}
    body = json.dumps({"accounts": accounts}).encode()
    made = (await rest.acall("POST", "/v1/ledger/accounts", body)).json()["results"]
    assert [item["result"] for item in made] == [
        *("ACCOUNT_RESULT_OK", "ACCOUNT_RESULT_INVALID_ACCOUNT", "ACCOUNT_RESULT_OK")
    ]
    assert made[1]["account_id"] == "halves:b"
    assert "the account cannot be read: " in made[1]["message"]

    subjects = ("halves.one", "halves.two", "halves.three")
    types = [
        {"subject": subject, "owner": "o", "versions": [{"version": 1, "json_schema": "{}"}]}
        for subject in subjects
    ]
    types[1]["description"] = "\ud800"
    contracts = [{"contract_id": f"halves/{n}", "severity": "LOW", "owner": "o"} for n in range(3)]
    contracts[1]["title"] = "\ud800"
    for path, name, batch, kept in (
        ("/v1/event-types", "event_types", types, subjects[1]),
        ("/v1/monitoring/contracts", "contracts", contracts, "halves/1"),
    ):
        told = (await rest.acall("POST", path, json.dumps({name: batch}).encode())).json()
        assert [item["outcome"] for item in told["results"]] == [
            *("OUTCOME_ACCEPTED", "OUTCOME_REJECTED", "OUTCOME_ACCEPTED")
        ], told
        assert kept in told["results"][1].values()
        assert "it cannot be read: " in told["results"][1]["message"]
    violations = [{"contract_id": "halves/0", "request_id": name} for name in ("a", "\ud800", "c")]
    body = json.dumps({"violations": violations}).encode()
    told = (await rest.acall("POST", "/v1/monitoring/violations", body)).json()
    assert (told["accepted"], told["rejected"], told["problems"][0]["index"]) == (2, 1, 1)

    def transfer(**more: Any) -> dict[str, Any]:
        return {
            "transfer_id": new_id(),
            "debit_account_id": "halves:a",
            "credit_account_id": "halves:c",
            "amount": {"currency_code": "USD", "minor_units": "5"},
        } | more

    bad = transfer(metadata=half, linked=True)
    batch = [transfer(), transfer(linked=True), bad, transfer(), transfer()]
    body = json.dumps({"transfers": batch}).encode()
    posted = (await rest.acall("POST", "/v1/ledger/transfers", body)).json()["results"]
    assert [item["result"].removeprefix("TRANSFER_RESULT_") for item in posted] == [
        *("OK", "LINKED_EVENT_FAILED", "INVALID_TRANSFER", "LINKED_EVENT_FAILED", "OK")
    ]
    assert posted[2]["transfer_id"] == bad["transfer_id"]
    assert "the transfer cannot be read: " in posted[2]["message"]
    # Its id is not burnt: what its sender meant can be posted.
    mended = transfer(transfer_id=bad["transfer_id"])
    again = await rest.acall("POST", "/v1/ledger/transfers", {"transfers": [mended]})
    assert again.json()["results"][0]["result"] == "TRANSFER_RESULT_OK"

    order = {"recipe": "none", "reference": {"kind": "order", "id": "o-1"}}
    postings: list[dict[str, Any]] = [order, {**order, "version": "first"}, order]
    body = json.dumps({"postings": postings}).encode()
    told = (await rest.acall("POST", "/v1/ledger/recipes:post", body)).json()["results"]
    assert [item["refusal"]["reason"] for item in told] == [
        *("RECIPE_NOT_FOUND", "INVALID_FIELD", "RECIPE_NOT_FOUND")
    ]
    assert "the fact cannot be read: " in told[1]["refusal"]["message"]
    assert "field version" in told[1]["refusal"]["message"]


async def test_a_key_is_refused_where_items_have_ids_of_their_own(rest: Rest) -> None:
    await opened(rest)
    key = {"Idempotency-Key": new_id()}
    published = {"events": [{"id": "e1", "subject": "order.created", "data": {}}]}
    for path, body in (
        ("/v1/events", published),
        ("/v1/events:cloudevents", [{"id": "e1"}]),
        ("/v1/event-types", {"event_types": []}),
        ("/v1/metering/events", [event("kk", 10)]),
        ("/v1/ledger/accounts", {"accounts": []}),
        ("/v1/ledger/transfers", {"transfers": []}),
        ("/v1/monitoring/contracts", {"contracts": []}),
        ("/v1/monitoring/violations", {"violations": []}),
    ):
        refused = await rest.acall("POST", path, body, key)
        assert (refused.status, refused.reason) == (400, "IDEMPOTENCY_KEY_UNUSED"), path
        assert "leave the header out" in refused.json()["message"]
    accepted = await rest.acall("POST", "/v1/metering/events", [event("kk", 10)])
    assert int(accepted.json()["accepted"]) == 1


async def test_long_keys_are_told_apart_to_their_end(rest: Rest) -> None:
    await opened(rest)
    wanted = {"org_id": "acme", "period": JANUARY}
    first = await rest.acall(
        "POST", "/v1/billing/charges", wanted, {"Idempotency-Key": "k" * 200 + "1"}
    )
    assert first.status == 201, first.body
    other = await rest.acall(
        "POST",
        "/v1/billing/charges",
        wanted | {"org_id": "other"},
        {"Idempotency-Key": "k" * 200 + "2"},
    )
    # A request of its own: refused for what it asks, and not taken for the first one.
    assert other.reason == "NO_PLAN", other.body
    payments = [
        await rest.acall("POST", "/v1/payments", b"<pay/>", {"Idempotency-Key": "p" * 200 + end})
        for end in "122"
    ]
    ids = [payment.json()["payment_id"] for payment in payments]
    assert ids[0] != ids[1] == ids[2]


@pytest.mark.parametrize("body", [b"", b"<pay/>", b"\xff\x00{", b'{"amount": 1e400, "amount": NaN'])
async def test_payment_that_cannot_be_read_is_stored_as_refused(rest: Rest, body: bytes) -> None:
    made = await rest.acall("POST", "/v1/payments", body)
    assert made.status == 201, made.body
    payment = made.json()
    assert payment["status"] == "PAYMENT_STATUS_REFUSED"
    fetched = await rest.acall("GET", made.headers["location"])
    assert fetched.json()["payment_id"] == payment["payment_id"]


async def test_payment_is_charged_once_for_its_key(rest: Rest) -> None:
    config = {
        "merchant_id": "shop",
        "methods": [{"method": "card", "processor_id": "sandbox-card"}],
    }
    put = await rest.acall(
        "PUT", "/v1/merchant-configs/shop", {"request_id": new_id(), "config": config}
    )
    assert put.status == 200, put.body
    body = json.dumps(
        {
            "merchant_id": "shop",
            "order_id": "o1",
            "person_id": "meier",
            "orgId": "acme",
            "amount": "12.50",
            "currency": "USD",
            "payment_methods": ["card"],
        }
    ).encode()
    key = {"Idempotency-Key": "order o1"}
    first = await rest.acall("POST", "/v1/payments", body, key)
    again = await rest.acall("POST", "/v1/payments", body, key)
    assert (first.status, again.status) == (201, 201), first.body
    assert first.json()["status"] == "PAYMENT_STATUS_SUCCEEDED", first.body
    assert (first.json()["person_id"], first.json()["org_id"]) == ("meier", "acme")
    assert again.json()["payment_id"] == first.json()["payment_id"]
    listed = (await rest.acall("GET", "/v1/payments?merchant_id=shop")).json()["payments"]
    assert [item["payment_id"] for item in listed] == [first.json()["payment_id"]]


async def test_errors_name_what_is_wrong(rest: Rest) -> None:
    unknown = await rest.acall("GET", "/v1/billing/charges/chg_nothing")
    assert (unknown.status, unknown.reason, unknown.json()["code"]) == (404, "NOT_FOUND", 5)
    field = await rest.acall("GET", "/v1/billing/charges?page_size=1001")
    assert (field.status, field.reason) == (400, "INVALID_FIELD")
    assert field.detail("BadRequest")["field_violations"][0]["field"] == "page_size"
    token = await rest.acall("GET", "/v1/billing/charges?page_token=abc")
    assert (token.status, token.reason) == (400, "INVALID_PAGE_TOKEN")
    name = await rest.acall("POST", "/v1/billing/charges", {"organisation": "acme"})
    assert (name.status, name.reason) == (400, "UNDECODABLE_REQUEST")
    assert 'unknown field "organisation"' in name.json()["message"]


async def test_pages(rest: Rest) -> None:
    accounts = [
        {"account_id": f"cash:{n}:USD", "currency_code": "USD", "type": "ACCOUNT_TYPE_ASSET"}
        for n in range(5)
    ]
    made = await rest.acall("POST", "/v1/ledger/accounts", {"accounts": accounts})
    assert made.status == 200, made.body
    found, token = [], ""
    for _ in range(3):
        page = (
            await rest.acall("GET", f"/v1/ledger/accounts?page_size=2&page_token={token}")
        ).json()
        found += [item["account_id"] for item in page["accounts"]]
        token = page["next_page_token"]
    assert found == [item["account_id"] for item in accounts]
    assert token == ""


async def test_request_id_is_given_back(rest: Rest) -> None:
    given = await rest.acall("GET", "/v1/billing/charges", headers={"X-Request-Id": "my-call-1"})
    assert given.headers["x-request-id"] == "my-call-1"
    made = await rest.acall("GET", "/v1/billing/charges/none")
    assert uuid.UUID(made.headers["x-request-id"])


@pytest.mark.parametrize(
    "written", ["card-4242424242424242", "4242.4242.4242.4242", "%36011000990139424"]
)
async def test_a_card_number_is_no_request_id(rest: Rest, written: str, seen: list[str]) -> None:
    for method, path in (
        ("GET", "/v1/billing/charges"),
        ("GET", "/v1/billing/charges/none"),
        ("POST", "/v1/billing/charges"),
        ("GET", "/v1/events:tail?after=none"),
        ("GET", "/v1/nothing"),
    ):
        answer = await rest.acall(method, path, headers={"X-Request-Id": written})
        assert uuid.UUID(answer.headers["x-request-id"])
        assert (answer.headers["x-request-id"] in seen) is (path != "/v1/nothing")
        assert written not in answer.body.decode()


async def test_a_long_number_that_is_no_card_number_stays_a_request_id(rest: Rest) -> None:
    headers = {"X-Request-Id": "run-20260102-030405-000001"}
    answer = await rest.acall("GET", "/v1/billing/charges", headers=headers)
    assert answer.headers["x-request-id"] == headers["X-Request-Id"]


async def test_a_body_that_names_another_than_its_path_changes_nothing(rest: Rest) -> None:
    methods = [{"method": "card", "processor_id": "sandbox-card"}]
    for name in ("merchant_id", "merchantId"):
        body = {"request_id": new_id(), "config": {name: "other", "methods": methods}}
        refused = await rest.acall("PUT", "/v1/merchant-configs/shop", body)
        assert (refused.status, refused.reason) == (400, "INVALID_FIELD"), refused.body
    for merchant in ("shop", "other"):
        assert (await rest.acall("GET", f"/v1/merchant-configs/{merchant}")).status == 404


async def test_a_key_in_a_body_that_nobody_reads_is_told_where_it_belongs(rest: Rest) -> None:
    path = "/v1/webhook-endpoints/none"
    refused = await rest.acall("DELETE", path, {"request_id": new_id()})
    assert (refused.status, refused.reason) == (400, "INVALID_FIELD"), refused.body
    assert "header Idempotency-Key" in refused.json()["message"]
    assert (await rest.acall("DELETE", path, {}, {"Idempotency-Key": "k"})).status == 404


async def test_half_a_surrogate_pair_in_a_value_is_told(rest: Rest) -> None:
    answer = await rest.acall("POST", "/v1/metering/events", b'[{"request_id":"\\udc00"}]')
    assert answer.status == 202, answer.body
    assert "half of a surrogate pair" in answer.json()["problems"][0]["message"]


async def test_events_are_tailed_as_lines(mesh: Mesh, rest: Rest, seen: list[str]) -> None:
    await opened(rest)
    await rest.acall("POST", "/v1/metering/events", [event("t1", 1)])
    await mesh.drain_events()

    def first_line() -> bytes:
        connection = http.client.HTTPConnection(urlsplit(rest.url).netloc, timeout=20)
        try:
            connection.request(
                "GET",
                "/v1/events:tail?subjects=usage.reported",
                headers={
                    "Authorization": f"Bearer {rest.key}",
                    "X-Request-Id": "4242.4242.4242.4242",
                },
            )
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["x-request-id"] in seen
            return answer.readline()
        finally:
            connection.close()

    tailing = asyncio.create_task(asyncio.to_thread(first_line))
    while not tailing.done():  # a tail may begin with what comes after it
        await rest.acall("POST", "/v1/metering/events", [event(new_id(), 1)])
        await asyncio.sleep(0.1)
    line = json.loads(await tailing)
    assert line["result"]["event"]["subject"] == "usage.reported"
    # The payload is shown: its type is linked into the facade.
    assert line["result"]["event"]["message"]["@type"].endswith("payments.events.v1.UsageReported")


async def test_usage_that_does_not_read_is_rejected_alone(rest: Rest) -> None:
    await opened(rest)
    good, other = (json.dumps(event(new_id(), 1)) for _ in range(2))
    bad = [
        '{"request_id": "u1", "org_id": 5}',
        '{"request_id": "u2", "quantity": 1e1000000000000000000}',
        '{"request_id": "u3", "metadata": []}',
        '{"request_id": "u4", "time": "2026-1-1T0:0:0Z"}',
        '{"requestId": "u5", "request_id": "u5"}',
        "[]",
    ]
    body = f"[{good}, {','.join(bad)}, {other}]".encode()
    answer = await rest.acall("POST", "/v1/metering/events", body)
    assert answer.status == 202, answer.body
    found = answer.json()
    assert (int(found["accepted"]), int(found["rejected"])) == (2, len(bad))
    assert [item["index"] for item in found["problems"]] == [1, 2, 3, 4, 5, 6]
    assert [item["request_id"] for item in found["problems"]] == ["u1", "u2", "u3", "u4", "u5", ""]
    assert {item["outcome"] for item in found["problems"]} == {"OUTCOME_REJECTED"}
    assert {item["reason"] for item in found["problems"]} == {"INVALID_FIELD"}
    assert "RFC 3339" in found["problems"][3]["message"]


async def test_batch_too_large(rest: Rest) -> None:
    refused = await rest.acall("POST", "/v1/metering/events", [{}] * 10_001)
    assert (refused.status, refused.reason) == (400, "BATCH_TOO_LARGE")


async def test_body_too_large(mesh: Mesh, rest: Rest) -> None:
    with facade(mesh.address, "--body-bytes-max", "1000") as url:
        refused = await Rest(url, rest.key).acall("POST", "/v1/payments", b"x" * 1001)
    assert (refused.status, refused.reason) == (413, "MESSAGE_TOO_LARGE")


async def test_mesh_that_is_down() -> None:
    with facade("127.0.0.1:9") as url:
        ready = await Rest(url).acall("GET", "/readyz")
        assert (ready.status, ready.reason) == (503, "DEPENDENCY_UNAVAILABLE")
        assert (await Rest(url).acall("GET", "/healthz")).status == 200
        refused = await Rest(url, "key").acall("GET", "/v1/billing/charges")
        assert (refused.status, refused.reason) == (503, "DEPENDENCY_UNAVAILABLE")
        assert refused.headers["retry-after"] == "1"


# ---- Events of outside producers


async def test_the_body_of_published_events_travels_as_it_is(rest: Rest) -> None:
    stock = {"subject": "stock.moved", "owner": "shop"}
    version = {"version": 1, "json_schema": '{"type": "object", "required": ["sku"]}'}
    declared = {"event_types": [{**stock, "versions": [version]}]}
    registered = await rest.acall("POST", "/v1/event-types", declared)
    assert registered.json()["results"][0]["outcome"] == "OUTCOME_ACCEPTED", registered.body
    data = b'{ "sku":"a",\t"amount": 90071992547409.93, "n":9007199254740993, "k": 1.0 }'
    event = b'{"id": "e-1", "subject": "stock.moved", "key": "a", "data": %b}'
    body = b'{"events":[%b,\n%b]}' % (event % data, b'{"subject": "stock.moved", "data": {}}')
    published = await rest.acall("POST", "/v1/events", body)
    assert published.status == 200, published.body
    good, bad = published.json()["results"]
    assert (good["id"], good["outcome"]) == ("e-1", "OUTCOME_ACCEPTED")
    assert (bad["outcome"], bad["reason"]) == ("OUTCOME_REJECTED", "EVENT_PAYLOAD_INVALID")
    assert bad["pointer"] == "/sku"
    again = await rest.acall("POST", "/v1/events", body)
    assert again.json()["results"][0]["outcome"] == "OUTCOME_DUPLICATE"
    give_up_at = time.monotonic() + 10
    while not (events := (await rest.acall("GET", "/v1/events")).json()["events"]):
        assert time.monotonic() < give_up_at, "the event did not reach the feed"
        await asyncio.sleep(0.05)
    assert base64.b64decode(events[0]["json"]) == data


@pytest.mark.parametrize("subject", ["lesson.scheduled", "order.created", "order.updated"])
async def test_outside_producers_are_told_where_each_fault_is(rest: Rest, subject: str) -> None:
    broken = list(faults(subject))
    events = [{"subject": subject, "data": payload} for _, payload, _ in broken]
    good = {"id": "good", "subject": subject, "data": payload_of(subject)}
    answer = await rest.acall("POST", "/v1/events", {"events": [*events, good]})
    assert answer.status == 200, answer.body
    *refused, accepted = answer.json()["results"]
    for result, (what, _, pointer) in zip(refused, broken, strict=True):
        assert (result["outcome"], result["reason"], result["pointer"]) == (
            "OUTCOME_REJECTED",
            "EVENT_PAYLOAD_INVALID",
            pointer,
        ), what
    assert (accepted["id"], accepted["outcome"]) == ("good", "OUTCOME_ACCEPTED")


async def test_a_body_that_is_no_list_of_events_is_refused(rest: Rest) -> None:
    for body in (b"", b"{", b'{"events": [{"id": 1, }', b'{"event": []}'):
        answer = await rest.acall("POST", "/v1/events", body)
        assert (answer.status, answer.reason) == (400, "INVALID_FIELD"), body


async def test_types_of_events_are_read(rest: Rest) -> None:
    listed = (await rest.acall("GET", "/v1/event-types?page_size=5")).json()
    assert len(listed["event_types"]) == 5
    order = (await rest.acall("GET", "/v1/event-types/order.created")).json()
    assert (order["subject"], order["built_in"]) == ("order.created", True)
    assert (await rest.acall("GET", "/v1/event-types/nobody.knows")).status == 404
