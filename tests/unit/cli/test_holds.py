"""Transfers of every kind on the command line, and how accounts with holds and limits are shown."""

from __future__ import annotations

import pytest
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.type.v1 import type_pb2

from services.cli.commands import accounts, transfers
from services.cli.errors import CliError
from services.ledger.domain import transfers as domain

HOLD = "0190c1de-0000-7000-8000-000000000001"


def usd(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)


def between(minor_units: int) -> ledger_pb2.Transfer:
    return ledger_pb2.Transfer(debit_account_id="a", credit_account_id="b", amount=usd(minor_units))


def account(kind: ledger_pb2.AccountType.ValueType, *sums: int) -> ledger_pb2.Account:
    names = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
    balances = ledger_pb2.Balances(**dict(zip(names, sums, strict=True)))
    return ledger_pb2.Account(currency_code="USD", type=kind, balances=balances)


def test_the_command_line_knows_which_refusals_use_up_the_id() -> None:
    burning = {result.value for result in domain.BURNING}
    assert {*transfers.BURNING} == burning | {domain.TransferResult.ID_ALREADY_FAILED.value}


@pytest.mark.parametrize(
    ("kind", "sums", "cells"),
    [
        ("LIABILITY", (3310, 5000, 800, 10_000), ("8.00", "100.00", "8.90")),
        ("INCOME", (0, 0, 1, 0), ("0.01", "0.00", "-0.01")),
        ("ASSET", (5000, 3310, 10_000, 800), ("100.00", "8.00", "8.90")),
        ("EXPENSE", (5000, 0, 800, 0), ("8.00", "0.00", "50.00")),
        ("ASSET", (5000, 3310, 0, 0), ("", "", "")),
    ],
)
def test_available_is_the_balance_less_what_holds_would_take(
    kind: str, sums: tuple[int, ...], cells: tuple[str, ...]
) -> None:
    found = account(ledger_pb2.AccountType.Value(f"ACCOUNT_TYPE_{kind}"), *sums)
    assert accounts.held(found) == cells


def test_limits_are_shown_with_their_amounts_zero_too() -> None:
    found = account(ledger_pb2.ACCOUNT_TYPE_ASSET, 0, 0, 0, 0)
    assert accounts.limits(found) == ""
    found.limits.floor.CopyFrom(usd(0))
    found.limits.ceiling.CopyFrom(usd(50_000))
    found.flags.closed = True
    assert accounts.limits(found) == "floor 0.00, ceiling 500.00, closed"


def test_a_transfer_of_each_kind_is_told_as_far_as_it_is_known() -> None:
    hold = between(500)
    hold.kind = ledger_pb2.KIND_PENDING
    assert transfers._told(hold) == "5.00 USD: a → b"
    transfers.set_timeout(hold, "168h")
    assert transfers._told(hold) == "5.00 USD for 7d: a → b"
    most = between(500)
    most.balancing_debit = True
    assert transfers._told(most) == "up to 5.00 USD: a → b"
    most.ClearField("amount")
    assert transfers._told(most) == "what balances: a → b"
    part = ledger_pb2.Transfer(kind=ledger_pb2.KIND_POST_PENDING, pending_id=HOLD, amount=usd(5))
    assert transfers._told(part) == f"0.05 USD of hold {HOLD}"
    part.ClearField("amount")
    assert transfers._told(part) == f"all that was left of hold {HOLD}"
    part.kind = ledger_pb2.KIND_VOID_PENDING
    assert transfers._told(part) == f"hold {HOLD}"


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("DEBIT_ACCOUNT_BELOW_FLOOR", "tollmesh accounts get a"),
        ("CREDIT_ACCOUNT_ABOVE_CEILING", "tollmesh accounts get b"),
        ("EXCEEDS_CREDITS", "tollmesh accounts get a"),
        ("EXCEEDS_DEBITS", "tollmesh accounts get b"),
        ("DEBIT_ACCOUNT_CLOSED", "tollmesh accounts get a"),
        ("CREDIT_ACCOUNT_NOT_FOUND", "tollmesh accounts create b"),
        ("TIMEOUT_RESERVED_FOR_PENDING_TRANSFER", "--kind pending"),
    ],
)
def test_a_refusal_names_the_account_that_it_hangs_on(result: str, told: str) -> None:
    number = ledger_service_pb2.TransferResult.Value(f"TRANSFER_RESULT_{result}")
    verdict = ledger_service_pb2.PostTransferResult(result=number)
    hints = " ".join(transfers._hints(verdict, between(1)))
    assert told in hints
    assert ("not post it later" in hints) == (number in transfers.BURNING)


@pytest.mark.parametrize("name", ["ALREADY_POSTED", "ALREADY_VOIDED", "EXPIRED"])
def test_the_refused_end_of_a_hold_tells_where_it_is_seen(name: str) -> None:
    number = ledger_service_pb2.TransferResult.Value(f"TRANSFER_RESULT_PENDING_TRANSFER_{name}")
    verdict = ledger_service_pb2.PostTransferResult(result=number)
    sent = ledger_pb2.Transfer(kind=ledger_pb2.KIND_VOID_PENDING, pending_id=HOLD)
    *_, last = transfers._hints(verdict, sent)
    assert last == f"how it stands: tollmesh ledger transfer {HOLD}"


def test_a_hold_without_an_end_has_no_timeout() -> None:
    sent = ledger_pb2.Transfer()
    for span in ("", "0", "0d"):
        transfers.set_timeout(sent, span)
        assert not sent.HasField("timeout")


def test_only_a_hold_that_closes_may_be_of_nothing() -> None:
    closing = ledger_pb2.Transfer(closing_credit=True)
    transfers.set_amount(closing, "0", "USD")
    assert closing.HasField("amount") and closing.amount == usd(0)
    with pytest.raises(CliError, match="more than zero"):
        transfers.set_amount(ledger_pb2.Transfer(), "0", "USD")
