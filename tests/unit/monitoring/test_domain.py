"""Which violations are the same, which belong together, and how contracts change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.domain import (
    SEVERITY_DEFAULT,
    Contract,
    ContractKind,
    Violation,
    completed,
    fingerprint,
    normalised,
    registered,
)
from services.runtime.texts import storable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 3, tzinfo=UTC)
CONTRACT = Contract(
    "checkout/answers", "Answers in time", "", "payments", "HIGH", ContractKind.OBJECTIVE
)
VIOLATION = Violation("checkout/answers", "r1", "", "took 932 ms", "", "pay_1", NOW)


def test_the_same_violation_has_the_same_id_whenever_it_is_told() -> None:
    again = replace(VIOLATION, occurred_at=LATER, severity="LOW", service="router")
    assert again.violation_id == VIOLATION.violation_id


@pytest.mark.parametrize("field", ["contract_id", "request_id", "message", "subject_id"])
def test_another_violation_has_another_id(field: str) -> None:
    changes: dict[str, Any] = {field: "other"}
    assert replace(VIOLATION, **changes).violation_id != VIOLATION.violation_id


def test_parts_of_an_id_do_not_run_into_one_another() -> None:
    one = replace(VIOLATION, contract_id="ab", request_id="c")
    two = replace(VIOLATION, contract_id="a", request_id="bc")
    assert one.violation_id != two.violation_id


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("took 932 ms", "took 1,204.5 ms"),
        (
            "charge chg_0190c1de-0000-7000-8000-000000000001 lacks a line",
            "Charge chg_0190c1de-1111-7000-8000-000000000002  lacks a line",
        ),
        ("event 01ARZ3NDEKTSV4RRFFQ69G5FAV", "event 01BX5ZZKBKACTAV9WEVGEMMVRZ"),
        ("hash 0123456789abcdef0123", "hash ffffffffffffffffffff"),
        (
            "charge chg_01a224a1-5d7b-71d4-8a57-ee018aa533fc has closed it",
            "charge chg_fffffff1-0000-7000-abcd-ee018aa533ff has closed it",
        ),
    ],
)
def test_messages_that_differ_in_numbers_and_ids_share_a_group(one: str, two: str) -> None:
    assert normalised(one) == normalised(two)
    assert fingerprint(replace(VIOLATION, message=one), 1) == fingerprint(
        replace(VIOLATION, message=two), 1
    )


def test_other_words_contracts_versions_and_services_make_other_groups() -> None:
    groups = {
        fingerprint(VIOLATION, 1),
        fingerprint(VIOLATION, 2),
        fingerprint(replace(VIOLATION, message="was refused"), 1),
        fingerprint(replace(VIOLATION, contract_id="plan/coverage"), 1),
        fingerprint(replace(VIOLATION, service="router"), 1),
    }
    assert len(groups) == 5
    assert all(len(group) == 32 for group in groups)


@given(st.text(max_size=300))
def test_normalising_is_total_and_settles(message: str) -> None:
    once = normalised(message)
    assert not any("0" <= character <= "9" for character in once)
    assert normalised(once) == once


@given(st.text(max_size=50))
def test_what_is_stored_has_no_zero_character(text: str) -> None:
    assert "\0" not in storable(text + "\0")


def test_what_is_left_out_comes_from_the_contract() -> None:
    whole = completed(VIOLATION, CONTRACT)
    assert (whole.severity, whole.service) == ("HIGH", "checkout")


def test_an_unknown_contract_leaves_the_default_severity() -> None:
    assert completed(VIOLATION, None).severity == SEVERITY_DEFAULT


def test_what_was_told_stands() -> None:
    told = replace(VIOLATION, severity="CRITICAL", service="gateway")
    assert completed(told, CONTRACT) == told


def test_a_new_contract_is_version_one() -> None:
    assert registered(CONTRACT, None, NOW) == replace(CONTRACT, version=1, registered_at=NOW)


def test_the_same_content_changes_nothing() -> None:
    first = registered(CONTRACT, None, NOW)
    assert registered(CONTRACT, first, LATER) is first


def test_other_content_is_the_next_version() -> None:
    first = registered(CONTRACT, None, NOW)
    second = registered(replace(CONTRACT, owner="risk"), first, LATER)
    assert (second.version, second.owner, second.registered_at) == (2, "risk", LATER)


def test_a_built_in_contract_may_get_an_owner_of_one_s_own() -> None:
    built_in = replace(CONTRACT, version=1, built_in=True)
    wanted = replace(CONTRACT, owner="acquiring")
    assert registered(CONTRACT, built_in, NOW) is built_in
    own = registered(wanted, built_in, NOW)
    assert (own.version, own.owner, own.built_in, own.registered_at) == (2, "acquiring", True, NOW)
