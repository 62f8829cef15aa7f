"""The table of reservations: every move is in it or refused with its reason, and a lock has one holder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orders.domain.credits import Part
from services.orders.domain.reservations import (
    TRANSITIONS,
    Funding,
    Move,
    Reservation,
    ReservationLockHeld,
    ReservationStatusConflict,
    Status,
    consumed,
    expired,
    locked,
    moved,
)

START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(hours=1)
OPEN = (Status.RESERVED, Status.LOCKED)


def reservation(
    status: str = Status.RESERVED, funding: str = Funding.UNFUNDED, holder: str = ""
) -> Reservation:
    parts = (Part("g1", 30), Part("g2", 10))
    return Reservation("res_1", "per_1", "USD", parts, START, END, status, funding, holder)


@pytest.mark.parametrize(("status", "funding", "move"), list(product(Status, Funding, Move)))
def test_every_move_is_in_the_table_or_refused(
    status: Status, funding: Funding, move: Move
) -> None:
    before = reservation(status, funding)
    if ((status, funding), move) in TRANSITIONS:
        after = moved(before, move)
        assert (after.status, after.funding) == TRANSITIONS[(status, funding), move]
        assert after.amount == before.amount == 40
        return
    with pytest.raises(ReservationStatusConflict) as refused:
        moved(before, move)
    assert refused.value.metadata == {
        "reservation_id": "res_1",
        "status": status.value,
        "funding": funding.value,
    }
    assert f"cannot {move.value} reservation res_1, which is {status} and {funding}" in str(
        refused.value
    )


def test_the_table_is_the_contract() -> None:
    told = {
        f"{status} {funding} {move.value}: {after} {funded}"
        for ((status, funding), move), (after, funded) in TRANSITIONS.items()
    }
    assert told == {
        "RESERVED UNFUNDED lock: LOCKED UNFUNDED",
        "RESERVED FUNDED lock: LOCKED FUNDED",
        "RESERVED UNFUNDED fund: RESERVED FUNDED",
        "LOCKED UNFUNDED fund: LOCKED FUNDED",
        "LOCKED FUNDED consume: CONSUMED FUNDED",
        "RESERVED UNFUNDED release: RELEASED UNFUNDED",
        "RESERVED FUNDED release: RELEASED FUNDED",
        "LOCKED UNFUNDED release: RELEASED UNFUNDED",
        "LOCKED FUNDED release: RELEASED FUNDED",
        "RESERVED UNFUNDED expire: EXPIRED UNFUNDED",
        "RESERVED FUNDED expire: EXPIRED FUNDED",
    }


def test_what_has_ended_is_left_by_nothing_and_is_never_unfunded_again() -> None:
    assert {status for (status, _), _ in TRANSITIONS} == set(OPEN)
    for ((_, before), _), (_, after) in TRANSITIONS.items():
        assert before is Funding.UNFUNDED or after is Funding.FUNDED


def test_an_unknown_status_is_refused_and_told() -> None:
    with pytest.raises(ReservationStatusConflict) as refused:
        moved(reservation("SUSPENDED"), Move.LOCK)
    assert refused.value.metadata["status"] == "SUSPENDED"


def test_a_lock_has_one_holder() -> None:
    mine = locked(reservation(), "a", START)
    assert (mine.status, mine.holder) == (Status.LOCKED, "a")
    assert locked(mine, "a", END) == mine
    for act in ("lock b", "consume b"):
        with pytest.raises(ReservationLockHeld) as refused:
            _ACTS[act](mine, START)
        assert refused.value.metadata == {"reservation_id": "res_1", "holder": "a"}


def test_only_what_is_locked_and_funded_is_consumed_by_its_holder() -> None:
    mine = locked(reservation(), "a", START)
    with pytest.raises(
        ReservationStatusConflict, match="UNFUNDED: this takes one that is LOCKED and FUNDED"
    ):
        consumed(mine, "a")
    done = consumed(moved(mine, Move.FUND), "a")
    assert (done.status, done.funding, done.holder) == (Status.CONSUMED, Funding.FUNDED, "a")


def test_a_reservation_expires_at_its_time_and_not_under_a_holder() -> None:
    with pytest.raises(ReservationStatusConflict, match="its time is over at"):
        expired(reservation(), END - timedelta.resolution)
    assert expired(reservation(), END).status == Status.EXPIRED
    with pytest.raises(ReservationStatusConflict):
        expired(locked(reservation(), "a", START), END)


def test_what_is_over_is_not_locked_though_no_timer_has_told_so() -> None:
    assert locked(reservation(), "a", END - timedelta.resolution).holder == "a"
    with pytest.raises(ReservationStatusConflict, match="its time was over at"):
        locked(reservation(), "a", END)


_ACTS: dict[str, Callable[[Reservation, datetime], Reservation]] = {
    "lock a": lambda one, at: locked(one, "a", at),
    "lock b": lambda one, at: locked(one, "b", at),
    "fund": lambda one, _: moved(one, Move.FUND),
    "consume a": lambda one, _: consumed(one, "a"),
    "consume b": lambda one, _: consumed(one, "b"),
    "release": lambda one, _: moved(one, Move.RELEASE),
    "expire": expired,
}


@given(st.lists(st.tuples(st.sampled_from(sorted(_ACTS)), st.integers(0, 90)), max_size=20))
def test_whatever_is_done_it_ends_once_and_changes_hands_never(acts: list[tuple[str, int]]) -> None:
    one = reservation()
    for name, minutes in acts:
        before = one
        try:
            one = _ACTS[name](one, START + timedelta(minutes=minutes))
        except (ReservationStatusConflict, ReservationLockHeld):
            continue
        assert before.status in OPEN
        assert before.holder in ("", one.holder)
        assert one == replace(before, status=one.status, funding=one.funding, holder=one.holder)
        if one.status == Status.CONSUMED:
            assert (before.status, one.funding, name[-1]) == (
                Status.LOCKED,
                Funding.FUNDED,
                one.holder,
            )
