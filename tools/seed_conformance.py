"""Write docs/reference/seed-conformance.md: what the contracts of orders ask for, and which test holds it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import pages

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/seed-conformance.md"

HEAD = """\
# Conformance of orders

<!-- Written by tools/seed_conformance.py. `make generate` writes it again; `make lint` fails when it is stale. -->

The events of orders follow the contracts `order-flow` v1.0.0 and `payment-flow` v1.0.0. Each row is something that they
ask of the producer, in our words, and what holds it here. A test checks that every test that is named exists.

| contract | asked for | verdict | held by |
|---|---|---|---|
"""
_ORDERS = "tests/integration/orders/test_orders.py"
_PAYMENTS = "tests/integration/orders/test_payments.py"
_REFUNDS = "tests/integration/orders/test_refunds.py"
_STATUSES = "tests/unit/orders/test_statuses.py"


@dataclass(frozen=True)
class Clause:
    """Something that a contract asks for.

    Attributes:
        contract: with the section.
        asked: in our words.
        verdict: `kept`, or what is missing.
        tests: that hold it, as `file::name`; none where nothing of it is kept.
    """

    contract: str
    asked: str
    verdict: str
    tests: tuple[str, ...] = ()


def _of(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::{name}" for name in names)


CLAUSES = (
    Clause(
        "order-flow 3",
        "An order is known by `ord_` and a UUID of version 7, a person by `per_`, an organisation by `org_`",
        "kept",
        _of(
            _ORDERS,
            "test_order_flow_4_1_created_is_told_once_and_to_the_letter",
            "test_what_is_refused_leaves_nothing",
        ),
    ),
    Clause(
        "order-flow 4.1",
        "`order.created` has exactly the fields of its schema, and commits with the order",
        "kept",
        _of(_ORDERS, "test_order_flow_4_1_created_is_told_once_and_to_the_letter"),
    ),
    Clause(
        "order-flow 4.2",
        "`order.updated` says what status and amounts were and are, and commits with the change",
        "kept",
        _of(_ORDERS, "test_order_flow_4_2_updated_tells_what_was_and_what_is"),
    ),
    Clause(
        "order-flow 4.3",
        "A refund that moves the status is told by both `refund.completed` and `order.updated`, with one order_id",
        "kept",
        _of(_REFUNDS, "test_a_part_leaves_the_status_and_all_of_it_ends_the_order"),
    ),
    Clause(
        "order-flow 5",
        "`order.created` exactly once for each order that commits",
        "kept",
        _of(_ORDERS, "test_order_flow_4_1_created_is_told_once_and_to_the_letter")
        + _of("tests/chaos/mesh/test_crash_points.py", "test_nothing_is_lost_or_doubled"),
    ),
    Clause(
        "order-flow 5",
        "`order.updated` exactly once for each committed change of status, total, what is paid, or cancellation",
        "kept",
        _of(
            _ORDERS,
            "test_two_operators_at_once_on_one_order",
            "test_what_changes_nothing_is_not_told",
        )
        + _of(_STATUSES, "TestLife"),
    ),
    Clause(
        "order-flow 5",
        "No tenant_id in a payload",
        "kept",
        _of(_ORDERS, "test_order_flow_4_2_updated_tells_what_was_and_what_is"),
    ),
    Clause(
        "order-flow 5",
        "No `order.updated` for notes and what only operators see",
        "kept",
        _of(_ORDERS, "test_order_flow_5_notes_and_flags_are_not_told"),
    ),
    Clause(
        "order-flow 6",
        "Readers ignore values of status, created_via and updated_via that they do not know",
        "kept",
        _of(_STATUSES, "test_a_status_of_a_later_release_is_borne_and_not_moved"),
    ),
    Clause(
        "payment-flow 4.1",
        "By the time of `payment.received` the order is PAID or PARTIALLY_PAID and the external action is stored",
        "kept for what operators record; a payment by a processor writes to no order yet",
        _of(_PAYMENTS, "test_payment_flow_4_1_who_sees_the_event_finds_the_order_paid"),
    ),
    Clause(
        "payment-flow 4.2",
        "`payment.failed` commits with the external action of the failure, and leaves the order as it is",
        "not yet: processors write to no order, and nobody records a failure",
    ),
    Clause(
        "payment-flow 4.3",
        "Cash names the operator; a check its number and the operator",
        "kept",
        _of(
            _PAYMENTS,
            "test_payment_flow_4_3_cash_and_check_end_in_the_books",
            "test_what_is_refused_leaves_nothing",
        ),
    ),
    Clause(
        "payment-flow 4.3",
        "What is paid from a balance of credits names its account and entries",
        "not yet: there are no credits",
    ),
    Clause(
        "payment-flow 5",
        "`payment.received` exactly once for each payment, whoever sends the same again",
        "kept",
        _of(
            _PAYMENTS,
            "test_payment_flow_5_once_for_each_payment",
            "test_the_same_check_is_no_second_payment",
        )
        + _of("tests/chaos/mesh/test_crash_points.py", "test_nothing_is_lost_or_doubled"),
    ),
    Clause(
        "payment-flow 5",
        "A provider_ref always; the id of the external action, `ext_…`, where no provider was called",
        "kept",
        _of(_PAYMENTS, "test_payment_flow_4_3_cash_and_check_end_in_the_books"),
    ),
    Clause(
        "payment-flow 5",
        "`payment.failed` for the first failure only, and none for the retry of a success",
        "not yet for orders, see 4.2",
    ),
)


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when it is stale"
    )
    check = parser.parse_args().check
    return pages.write_or_check(ROOT, {PAGE: page()}, check=check, as_what="the clauses are")


def page() -> str:
    """Return the page."""
    return HEAD + "".join(map(_row, CLAUSES))


def _row(clause: Clause) -> str:
    held = "<br>".join(f"`{name.replace('::', ' ')}`" for name in clause.tests)
    cells = (clause.contract, clause.asked, clause.verdict)
    return f"| {' | '.join(map(pages.cell, cells))} | {held} |\n"


if __name__ == "__main__":
    sys.exit(main())
