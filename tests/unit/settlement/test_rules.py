"""What is paid at once and what waits; policies; words and numbers that others read too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from payments.settlement.v1 import settlement_pb2 as pb
from payments.type.v1.type_pb2 import Money as MoneyMessage

from services.runtime.errors import InvalidField
from services.runtime.money import Money
from services.settlement.domain.earnings import Earning, Standing, due_at_once, swept
from services.settlement.domain.payouts import Leg, PayoutKind, PayoutStatus
from services.settlement.domain.policy import Policy, in_force
from services.settlement.domain.sweeps import SweepStatus
from services.settlement.messages import policies as messages

NOW = datetime(2026, 3, 2, tzinfo=UTC)
OURS = in_force("", None, None)


def aud(*minors: int) -> list[Earning]:
    return [
        Earning("chg_1", place, "acme", "calls", "north", Money("AUD", minor), "", NOW)
        for place, minor in enumerate(minors, start=1)
    ]


def at_once(earnings: list[Earning], carried: int, policy: Policy = OURS) -> list[tuple[int, int]]:
    standings = {("north", "AUD"): Standing("north", "AUD", carried, 0, 0)}
    found = due_at_once(earnings, standings, {"north": policy})
    return [(earning.line_no, amount.minor_units) for earning, amount in found]


def test_above_fifty_dollars_is_paid_at_once_and_fifty_is_not() -> None:
    assert at_once(aud(50_00, 50_01, 49_99), 150_00) == [(2, 50_01)]


def test_what_is_owed_after_all_bounds_it() -> None:
    assert at_once(aud(60_00, 70_00), 100_00) == [(1, 60_00), (2, 40_00)]
    assert at_once(aud(60_00), 0) == []
    assert at_once(aud(60_00), -5_00) == []


def test_less_than_the_least_waits() -> None:
    policy = in_force("", None, Policy(minimums={"AUD": 45_00}))
    assert at_once(aud(60_00, 70_00), 100_00, policy) == [(1, 60_00)]


@pytest.mark.parametrize(
    ("carried", "later", "pays"),
    [
        (100, 0, 100),
        (100, 30, 70),
        (100, 100, 0),
        (100, 130, 0),
        (100, -30, 100),
        (-5, 0, 0),
        (0, 0, 0),
    ],
)
def test_a_sweep_pays_what_was_owed_by_then_and_still_is(
    carried: int, later: int, pays: int
) -> None:
    assert swept(Standing("north", "AUD", carried + 9, 4, 5), later, OURS) == pays


def test_numbers_are_those_of_the_messages() -> None:
    kinds = (
        (PayoutKind, pb.PayoutKind, "PAYOUT_KIND_"),
        (PayoutStatus, pb.PayoutStatus, "PAYOUT_STATUS_"),
        (SweepStatus, pb.SweepStatus, "SWEEP_STATUS_"),
    )
    for ours, theirs, prefix in kinds:
        named = {name: number for name, number in theirs.items() if number}
        assert {f"{prefix}{each.name}": each.value for each in ours} == named
    assert [leg.recipe for leg in Leg] == ["payout-claim", "payout-paid", "payout-returned"]


def test_a_policy_comes_back_as_it_was_put() -> None:
    def money(currency: str, minor: int) -> MoneyMessage:
        return MoneyMessage(currency_code=currency, minor_units=minor)

    message = pb.SettlementPolicy(
        payout_threshold=money("USD", 40_00),
        further_payout_thresholds=[money("EUR", 30_00), money("JPY", 5_000)],
        payout_minimums=[money("USD", 1_00)],
        sweep="0 6 * * FRI",
        time_zone="Australia/Sydney",
    )
    assert messages.policy_message(messages.policy_of(message)) == message
    holds = in_force("north", Policy("north", {"JPY": 9}), messages.policy_of(message))
    assert holds.thresholds == {"USD": 40_00, "EUR": 30_00, "JPY": 9}
    assert (holds.sweep, holds.least("USD"), holds.least("EUR")) == ("0 6 * * FRI", 1_00, 1)


def test_all_that_is_wrong_is_named_at_once() -> None:
    message = pb.SettlementPolicy(seller="north", sweep="0 0 * * 1")
    message.payout_threshold.CopyFrom(MoneyMessage(currency_code="USD", minor_units=-1))
    with pytest.raises(InvalidField) as caught:
        messages.policy_of(message)
    assert [each.field for each in caught.value.fields] == [
        "policy.payout_threshold",
        "policy.sweep",
    ]
