"""Runs of charges: in order, bounded, and ended by what no organisation is to blame for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from payments.billing.v1 import billing_pb2
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2
from payments.type.v1 import type_pb2

from services.cli import charge_run
from services.cli.errors import EXIT_DENIED, EXIT_REFUSED, EXIT_UNAVAILABLE, CliError

NAMES = [f"org-{number:03}" for number in range(50)]


def charge_of(org_id: str) -> billing_pb2.Charge:
    made = billing_pb2.Charge(charge_id=f"chg_{org_id}", org_id=org_id)
    made.total.currency_code, made.total.minor_units = "USD", int(org_id[-3:])
    return made


def test_charges_come_in_the_order_of_their_organisations_and_sum_up() -> None:
    run = charge_run.Run()
    made = list(charge_run.charged(NAMES, charge_of, run, jobs=4))
    assert [each.org_id for each in made] == NAMES
    assert (run.charged, dict(run.totals)) == (50, {"USD": sum(range(50))})
    assert not run.refused


def test_no_more_are_begun_than_may_wait() -> None:
    begun = 0

    def names() -> Iterator[str]:
        nonlocal begun
        for name in NAMES:
            begun += 1
            yield name

    found = charge_run.charged(names(), charge_of, charge_run.Run(), jobs=3)
    next(found)
    assert begun <= 3 * 2
    next(found)
    assert begun <= 3 * 2 + 1
    assert sum(1 for _ in found) == 48


def test_a_refused_organisation_keeps_no_other_from_being_charged() -> None:
    def charge(org_id: str) -> billing_pb2.Charge:
        if org_id.endswith(("3", "7")):
            raise CliError(f"{org_id} is on no plan", exit_code=EXIT_REFUSED, reason="NO_PLAN")
        return charge_of(org_id)

    run = charge_run.Run()
    made = list(charge_run.charged(NAMES, charge, run, jobs=4))
    assert (len(made), dict(run.refused), run.done) == (40, {"NO_PLAN": 10}, 50)
    first = charge_run.as_json(run.refusals[0])
    assert (first["org_id"], first["error"]["reason"]) == ("org-003", "NO_PLAN")


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (EXIT_UNAVAILABLE, ""),
        (EXIT_DENIED, "PERMISSION_DENIED"),
        (EXIT_REFUSED, "PERIOD_NOT_ENDED"),
    ],
)
def test_what_holds_for_all_ends_the_run(exit_code: int, reason: str) -> None:
    tried: set[str] = set()

    def charge(org_id: str) -> billing_pb2.Charge:
        tried.add(org_id)
        if org_id >= NAMES[5]:
            raise CliError("no", exit_code=exit_code, reason=reason)
        return charge_of(org_id)

    run = charge_run.Run()
    with pytest.raises(CliError):
        list(charge_run.charged(NAMES, charge, run, jobs=2))
    assert run.charged == 5
    assert len(tried) < 12


def test_who_is_asked_to_wait_waits_and_is_charged() -> None:
    lock, left = threading.Lock(), dict.fromkeys(NAMES, 2)

    def charge(org_id: str) -> billing_pb2.Charge:
        with lock:
            left[org_id] -= 1
            if left[org_id] >= 0:
                raise CliError("slow down", reason="RATE_LIMITED", retry_after_ms=0)
        return charge_of(org_id)

    run = charge_run.Run()
    assert len(list(charge_run.charged(NAMES, charge, run, jobs=4))) == 50


def test_who_is_asked_to_wait_for_ever_is_told() -> None:
    def charge(_: str) -> billing_pb2.Charge:
        raise CliError("slow down", reason="RATE_LIMITED", retry_after_ms=0)

    run = charge_run.Run()
    assert not list(charge_run.charged(NAMES[:2], charge, run, jobs=1))
    assert dict(run.refused) == {"RATE_LIMITED": 2}


class Catalogue:
    """Answers the two lists, a page of one item each."""

    def __init__(self, entitled: dict[str, str], on_models: dict[str, str]) -> None:
        self.entitlements = [_dated(pricing_pb2.Entitlement, "effective_at", entitled)]
        self.org_business_models = [_dated(pricing_pb2.OrgBusinessModel, "assigned_at", on_models)]

    def stub(self, _: object) -> Catalogue:
        return self

    ListEntitlements = "entitlements"
    ListOrgBusinessModels = "org_business_models"

    def call(self, method: str, request: Any) -> Any:
        (items,) = getattr(self, method)
        number = int(request.page_token or 0)
        answers = {
            "entitlements": catalog_service_pb2.ListEntitlementsResponse,
            "org_business_models": catalog_service_pb2.ListOrgBusinessModelsResponse,
        }
        token = str(number + 1) if number + 1 < len(items) else ""
        page = {method: items[number : number + 1], "next_page_token": token}
        return answers[method](**page)


def _dated(kind: Any, field: str, found: dict[str, str]) -> list[Any]:
    items = []
    for org_id, day in found.items():
        item = kind(org_id=org_id)
        getattr(item, field).FromJsonString(f"{day}T00:00:00Z")
        items.append(item)
    return items


def test_who_is_on_a_plan_by_an_entitlement_or_by_a_business_model_is_charged_once() -> None:
    period = type_pb2.Period()
    period.start_at.FromJsonString("2024-05-01T00:00:00Z")
    period.end_at.FromJsonString("2024-06-01T00:00:00Z")
    mesh: Any = Catalogue(
        {"ash": "2024-01-01", "elm": "2024-06-01", "fir": "2024-06-01", "oak": "2024-05-31"},
        {"ash": "2024-01-01", "fir": "2024-01-01", "ivy": "2024-05-31", "yew": "2024-06-01"},
    )
    run = charge_run.Run()
    found = list(charge_run.organisations(mesh, period, run))
    assert found == ["ash", "oak", "fir", "ivy"]
    assert (run.later, run.later_ids) == (1, ["yew"])
