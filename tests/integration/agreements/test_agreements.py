"""Agreements over gRPC: what is written, what is told, what is refused, and what was true and known when."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from payments.agreements.v1 import agreement_service_pb2 as service_pb
from payments.agreements.v1 import agreements_pb2 as pb
from payments.type.v1.type_pb2 import Money

from services.agreements import facts, servicer
from services.agreements.app import agreements as app
from services.agreements.messages import agreements as messages
from services.agreements.store import agreements as store
from services.runtime.edge import values as edge
from tests.support.agreements.desk import ACTIVATE, Contracts, begun, priced, with_product
from tests.support.billing.charging import refused

DAY = timedelta(days=1)


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


async def test_all_sixteen_edits_are_kept_to_the_letter_and_told(contracts: Contracts) -> None:
    now = contracts.world.clock.now()
    renewal = pb.AutoRenew(months=12, notice_days=30, price_change_pct="2.5")
    installment = pb.Installment(due_at=edge.stamp(now), amount=usd(500))
    party = pb.Party(role=pb.ROLE_PARTNER, party_id="p-1", share_pct="12.5")
    edits = [
        begun(now, now + 365 * DAY),
        with_product(minimum_commitment=usd(9), hosting_fee=usd(3)),
        with_product("ups", ramp=[pb.RampStep(from_at=edge.stamp(now), quantity="5")]),
        pb.Edit(change_terms=pb.ChangeTerms(net_days=30, reference="MSA 7")),
        pb.Edit(set_downpayment=pb.SetDownpayment(downpayment=usd(1000))),
        pb.Edit(set_financing=pb.SetFinancing(financing=pb.Financing(installments=[installment]))),
        pb.Edit(assign_party=pb.AssignParty(party=party)),
        pb.Edit(set_auto_renew=pb.SetAutoRenew(auto_renew=renewal)),
        ACTIVATE,
        priced("8.5"),
        pb.Edit(change_quantity=pb.ChangeQuantity(product_id="ups", quantity="7")),
        pb.Edit(remove_product=pb.RemoveProduct(product_id="ups")),
        pb.Edit(suspend=pb.Suspend(reason="late")),
        pb.Edit(resume=pb.Resume()),
        pb.Edit(renew=pb.Renew(months=12, price_change_pct="10")),
        pb.Edit(extend_term=pb.ExtendTerm(end_at=edge.stamp(now + 1000 * DAY))),
        pb.Edit(terminate=pb.Terminate(reason="over")),
    ]
    applied = (await contracts.apply("", *edits)).agreement
    assert {each.WhichOneof("edit") for each in edits} == set(pb.Edit.DESCRIPTOR.fields_by_name)
    log = await contracts.edits(applied.agreement_id, page_size=5)
    assert [each.revision for each in log] == list(range(1, 18))
    for kept, given in zip(log, edits, strict=True):
        assert kept.edit == _normal(given)
    assert applied == await contracts.get(applied.agreement_id, at=now)
    assert (applied.status, applied.service_status) == (
        pb.STATUS_TERMINATED,
        pb.SERVICE_STATUS_ENDED,
    )
    assert applied.products[0].unit_price == "9.35"
    events = await contracts.events(applied.agreement_id)
    told = [subject for subject, _ in events]
    assert told == [
        "agreement.created",
        *["agreement.product.added"] * 2,
        *["agreement.terms.changed"] * 3,
        "agreement.party.assigned",
        "agreement.terms.changed",
        "agreement.status.changed",
        "agreement.price.changed",
        "agreement.quantity.changed",
        "agreement.product.removed",
        *["agreement.status.changed"] * 2,
        "agreement.renewed",
        "agreement.terms.changed",
        "agreement.status.changed",
    ]
    assert [payload.revision for _, payload in events] == list(range(1, 18))
    price = events[9][1]
    assert (price.sku, price.unit_price_from, price.unit_price_to) == ("colo", "10", "8.5")
    quantity = events[10][1]
    assert (quantity.quantity_from, quantity.quantity_to) == ("5", "7")
    last = events[-1][1]
    assert (last.status_from, last.status_to) == ("ACTIVE", "TERMINATED")


def _normal(edit: pb.Edit) -> pb.Edit:
    found = pb.Edit()
    found.CopyFrom(edit)
    if found.HasField("add_product"):
        found.add_product.product.unit_price = "10"
    return found


async def test_a_correction_is_known_from_when_it_was_written(contracts: Contracts) -> None:
    clock = contracts.world.clock
    began = clock.now()
    agreement_id = await contracts.draft()
    await contracts.apply(agreement_id, ACTIVATE)
    clock.advance(30 * DAY)
    corrected = await contracts.apply(agreement_id, priced("7"), at=began + 10 * DAY)
    assert [(each.path, each.before, each.after) for each in corrected.changes] == [
        ("products[rack].unit_price", "10", "7")
    ]

    async def price(at: float, known: float | None = None) -> str:
        seen = None if known is None else began + known * DAY
        found = await contracts.get(agreement_id, began + at * DAY, seen)
        return found.products[0].unit_price

    assert [await price(9), await price(10), await price(20, known=29)] == ["10", "7", "10"]
    error = await refused(
        contracts.get(agreement_id, at=began - DAY)  # before it began
    )
    assert error.reason == "NOT_FOUND"


async def test_validate_only_says_what_would_come_and_stores_nothing(contracts: Contracts) -> None:
    agreement_id = await contracts.draft()
    before = await contracts.events(agreement_id)
    said = await contracts.apply(agreement_id, priced("9"), ACTIVATE, validate_only=True)
    assert [each.path for each in said.changes] == [
        "billing_status",
        "products[rack].unit_price",
        "service_status",
        "status",
    ]
    assert (await contracts.get(agreement_id)).revision == 2
    assert await contracts.events(agreement_id) == before


async def test_a_repeated_call_is_one_edit(contracts: Contracts) -> None:
    agreement_id, request_id = await contracts.draft(), str(uuid4())
    first = await contracts.apply(agreement_id, priced("9"), request_id=request_id)
    assert await contracts.apply(agreement_id, priced("9"), request_id=request_id) == first
    assert len(await contracts.edits(agreement_id)) == 3


async def test_of_two_that_saw_one_revision_one_is_refused(contracts: Contracts) -> None:
    agreement_id = await contracts.draft()
    done = await asyncio.gather(
        *(
            contracts.apply(agreement_id, priced(str(price)), expected_revision=2)
            for price in range(1, 9)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in done) == 1
    error = await refused(contracts.apply(agreement_id, priced("1"), expected_revision=2))
    assert (error.reason, error.metadata["revision"]) == ("AGREEMENT_REVISION_CONFLICT", "3")


async def test_writers_that_expect_nothing_follow_one_another(contracts: Contracts) -> None:
    agreement_id = await contracts.draft()
    await asyncio.gather(
        *(contracts.apply(agreement_id, priced(str(price))) for price in range(1, 17))
    )
    log = await contracts.edits(agreement_id)
    assert [each.revision for each in log] == list(range(1, 19))
    told = [payload.revision for _, payload in await contracts.events(agreement_id)]
    assert told == list(range(1, 19)), "events of an agreement come in the order of its log"


async def test_edits_of_one_call_are_all_or_none(contracts: Contracts) -> None:
    agreement_id = await contracts.draft()
    error = await refused(contracts.apply(agreement_id, priced("9"), priced("9", "none")))
    assert (error.reason, error.metadata["edit"]) == ("AGREEMENT_EDIT_REFUSED", "change_price")
    assert (await contracts.get(agreement_id)).revision == 2


@pytest.mark.parametrize(
    ("edits", "field"),
    [
        ([ACTIVATE], "edits[0]"),
        ([pb.Edit()], "edits[0]"),
        ([pb.Edit(activate=pb.Activate())] * 101, "edits"),
    ],
)
async def test_malformed_edits_are_named(
    contracts: Contracts, edits: list[pb.Edit], field: str
) -> None:
    error = await refused(contracts.apply("", *edits))
    assert error.reason == "INVALID_FIELD"
    assert field in error.metadata["fields"]


async def test_values_that_contradict_one_another_are_named(contracts: Contracts) -> None:
    now = contracts.world.clock.now()
    backwards, same = begun(now, now - DAY), begun(now, buyer="north")
    for edit, field in ((backwards, "end_at"), (same, "seller"), (begun(now), "edits[1].create")):
        edits = [edit, edit] if "create" in field else [edit]
        error = await refused(contracts.apply("", *edits))
        assert (error.reason, field in error.metadata["fields"]) == ("INVALID_FIELD", True)


async def test_lists_page_the_latest_first_and_keep_tenants_apart(contracts: Contracts) -> None:
    made = []
    for _ in range(5):
        made.append(await contracts.draft())
        contracts.world.clock.advance(timedelta(seconds=1))
    found: list[str] = []
    token = ""
    while True:
        request = service_pb.ListAgreementsRequest(page_size=2, page_token=token)
        page = await contracts.stub.ListAgreements(request)
        found += [each.agreement_id for each in page.agreements]
        if not (token := page.next_page_token):
            break
    assert found == made[::-1]


async def test_the_log_only_grows(contracts: Contracts) -> None:
    """Not even the services' own role changes what was written."""
    await contracts.draft()
    statements = (
        "UPDATE agreements.edit SET body = '{}'",
        "DELETE FROM agreements.edit",
        "UPDATE agreements.agreement SET created_at = now()",
        "DELETE FROM agreements.agreement",
    )
    for statement in statements:
        with (
            psycopg.connect(contracts.world.database.service) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)


async def test_long_logs_and_wide_agreements_are_worked_on_beside_the_loop(
    contracts: Contracts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All services may share one loop, and 10,000 edits or 6,000 steps of ramps take long."""
    threads: dict[str, set[int]] = {}

    def watched(module: object, name: str) -> None:
        inner = getattr(module, name)

        def seen(*arguments: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return inner(*arguments)

        monkeypatch.setattr(module, name, seen)

    now = contracts.world.clock.now()
    ramp = [
        pb.RampStep(from_at=edge.stamp(now + timedelta(days=day)), quantity="1")
        for day in range(60)
    ]
    wide = [with_product(f"rack-{index}", ramp=ramp) for index in range(99)]
    watched(facts, "all_told")
    watched(app, "changes")
    watched(servicer, "_response")
    applied = await contracts.apply("", begun(now), *wide)
    agreement_id = applied.agreement.agreement_id
    assert len(applied.changes) > 6000
    for _ in range(5):
        await contracts.apply(agreement_id, *[priced("2.00", "rack-7")] * 100)
    watched(app, "as_of")
    watched(app, "extended")
    watched(store, "_entries")
    watched(messages, "agreement_message")
    request = service_pb.ListAgreementsRequest(page_size=10)
    (listed,) = (await contracts.stub.ListAgreements(request)).agreements
    assert listed == await contracts.get(agreement_id)
    assert (listed.revision, len(listed.products[0].ramp)) == (600, 60)
    await contracts.apply(agreement_id, pb.Edit(activate=pb.Activate()))
    assert threads.keys() == {
        *("all_told", "changes", "_response", "as_of", "extended", "_entries"),
        "agreement_message",
    }
    assert [name for name, known in threads.items() if threading.get_ident() in known] == []
