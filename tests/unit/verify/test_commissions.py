"""What the verifier says of shares of lines, of the rules by which partners earn, and of what disputes hold."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.billing.domain.corrections import Billed
from services.pricing.domain.commissions import Earner
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.prices import Price
from tests.support.billing import exported
from tests.support.billing.exported import PERIOD, Catalogue, Used
from tollmesh_verify import Verdict, seal, verify

D = Decimal
FIRST, SECOND = PERIOD.start_at + timedelta(days=10), PERIOD.start_at + timedelta(days=21)
SOUTH = Earner("south", "blue", FIRST, {"sms": D("7.5")}, "d-1")
NORTH = Earner("north", "gold", SECOND, {"": D(10)})
# North has 20 of 31 days in two stretches, south 11, and what south earns is held.
CATALOGUE = Catalogue(
    {"sms": Price(per_unit=PerUnit(D("0.05")))},
    partner_id="north",
    partner_pcts={"": D(10)},
    later_earners=((FIRST, SOUTH), (SECOND, NORTH)),
)
USED = [Used("sms", "p", ((D(700), ""),)), Used("sms", "q", ((D(333), ""),))]


def document() -> dict[str, Any]:
    return exported.tree(exported.charge(exported.rating(CATALOGUE, USED)))


def told(changed: dict[str, Any]) -> dict[str, str]:
    """Seal a document anew, and return what is found in it."""
    changed["seal"] = seal(changed["charges"])
    return {each.field: each.recomputed for each in verify(exported.content(changed)).findings}


def line(of: dict[str, Any], number: int) -> Any:
    return of["charges"][0]["lines"][number]["line"]


def test_shares_of_lines_are_verified() -> None:
    whole = document()
    report = verify(exported.content(whole))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    shares = [
        (each["line"]["partner_id"], each["line"]["amount_gross"]["minor_units"])
        for each in whole["charges"][0]["lines"]
    ]
    # 35.00 and 16.65 by 20 and 11 of 31 days.
    assert shares == [("north", "2258"), ("south", "1242"), ("north", "1074"), ("south", "591")]
    accounts = {
        posting["credit_account_id"]
        for each in whole["charges"][0]["lines"]
        for posting in each["postings"]
    }
    assert accounts == {
        "revenue:sms:USD",
        "payable:partner:north:USD",
        "held:commission:d-1:USD",
    }


def test_what_is_released_and_reversed_is_verified() -> None:
    base = exported.charge(exported.rating(CATALOGUE, USED))
    ended = Catalogue(
        CATALOGUE.prices,
        partner_id="north",
        partner_pcts={"": D(10)},
        later_earners=((FIRST, Earner("west", "blue", FIRST, {"": D(5)})), (SECOND, NORTH)),
    )
    billed = Billed(base)
    made = exported.adjustment(billed, exported.rating(ended, USED, "2:2:"))
    billed = Billed(base, (made,))
    tree = exported.tree(*billed.charges, exported.reversal(billed))
    report = verify(exported.content(tree))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    held = [
        int(posting["amount"]["minor_units"])
        for each in tree["charges"][1]["lines"]
        for posting in each["postings"]
        if posting["debit_account_id"] == "held:commission:d-1:USD"
    ]
    assert sum(held) == sum(
        each.partner_amount.minor_units for each in base.lines if each.rated.dispute_id
    )


def _share(number: int) -> Callable[[dict[str, Any]], None]:
    def change(changed: dict[str, Any]) -> None:
        del changed["charges"][0]["lines"][number]

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a share is missing": (_share(3), "lines"),
    "a share begins later": (
        lambda changed: line(changed, 1)["proof"]["commission"]["stretches"][0].update(
            start_at="2026-10-12T00:00:00Z"
        ),
        "line.amount_gross.minor_units",
    ),
    "a share outside the period": (
        lambda changed: line(changed, 1)["proof"]["commission"]["stretches"][0].update(
            end_at="2026-11-02T00:00:00Z"
        ),
        "line.proof.commission.stretches[0]",
    ),
    "a time that no calendar has": (
        lambda changed: line(changed, 1)["proof"]["commission"]["stretches"][0].update(
            end_at="2026-13-02T00:00:00Z"
        ),
        "line.proof.commission.stretches[0]",
    ),
    "another proof in a share": (
        lambda changed: line(changed, 1)["proof"].update(usage_snapshot="9:9:"),
        "line.proof",
    ),
    "a rate of another SKU": (
        lambda changed: line(changed, 0)["proof"]["commission"].update(rate_sku="calls"),
        "line.proof.commission.rate_sku",
    ),
    "no tier": (
        lambda changed: line(changed, 0)["proof"]["commission"].pop("partner_tier"),
        "line.proof.commission.partner_tier",
    ),
    "a record that began later": (
        lambda changed: line(changed, 0)["proof"]["commission"].update(
            record_start_at="2026-10-02T00:00:00Z"
        ),
        "line.proof.commission.record_start_at",
    ),
    "another percentage": (
        lambda changed: line(changed, 0).update(partner_pct="11"),
        "line.partner_amount.minor_units",
    ),
    "no dispute": (
        lambda changed: line(changed, 1).pop("dispute_id"),
        "postings[1].credit_account_id",
    ),
    "a dispute without a partner": (
        lambda changed: line(changed, 1).update(partner_id=""),
        "line.dispute_id",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_is_found_though_it_is_sealed_anew(name: str) -> None:
    change, field = CHANGES[name]
    changed = copy.deepcopy(document())
    change(changed)
    assert field in told(changed)


def test_a_dispute_posted_by_the_recipe_of_before_is_not_called_verified() -> None:
    changed = document()
    changed["charges"][0]["recipe_version"] = 1
    changed["seal"] = seal(changed["charges"])
    report = verify(exported.content(changed))
    assert report.verdict is Verdict.INCOMPLETE
    assert {gap.place.line_id for gap in report.gaps} == {"2", "4"}
