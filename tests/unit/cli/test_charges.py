"""What `tollmesh charge --all` adds up, and what a list of charges says of taxes."""

from __future__ import annotations

from payments.billing.v1 import billing_pb2
from payments.type.v1 import type_pb2

from services.cli import charge_run
from services.cli.commands.charges import _row


def euros(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="EUR", minor_units=minor_units)


UNTAXED = billing_pb2.Charge(charge_id="chg_1", org_id="a", total=euros(1_000))
TAXED = billing_pb2.Charge(
    charge_id="chg_2", org_id="b", total=euros(2_000), total_with_tax=euros(2_380)
)
# What it owes is in its total.
HELD = billing_pb2.Charge(
    charge_id="chg_3", org_id="c", total=euros(1_190), total_with_tax=euros(1_190)
)


def test_a_run_adds_up_what_is_owed_beside_what_is_charged() -> None:
    made = {"a": UNTAXED, "b": TAXED, "c": HELD}
    run = charge_run.Run()
    assert list(charge_run.charged(made, made.__getitem__, run, jobs=2)) == list(made.values())
    assert run.totals == {"EUR": 4_190}
    assert run.totals_with_tax == {"EUR": 4_570}


def test_taxes_that_are_added_stand_beside_a_total() -> None:
    totals = [_row(each)[3] for each in (UNTAXED, TAXED, HELD)]
    assert totals == ["10.00 EUR", "20.00 EUR, with tax 23.80 EUR", "11.90 EUR"]
