"""The short way of reading a transfer takes none that says more than it looks at."""

from __future__ import annotations

from typing import Any

import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.type.v1.type_pb2 import Money

from services.ledger.domain.transfers import Transfer
from services.ledger.messages import books

PLAIN = pb.Transfer(
    transfer_id="0190c1de-0000-7000-8000-000000000001",
    debit_account_id="a",
    credit_account_id="b",
    amount=Money(currency_code="USD", minor_units=5),
)
# A value for each field that a plain transfer does not have.
MORE: dict[str, Any] = {
    "kind": pb.KIND_PENDING,
    "pending_id": "0190c1de-0000-7000-8000-000000000002",
    "linked": True,
    "balancing_debit": True,
    "balancing_credit": True,
    "closing_debit": True,
    "closing_credit": True,
    "timeout": {"seconds": 1},
    "effective_at": {"seconds": 1},
    "not_before": {"seconds": 1},
    "metadata": {"k": "v"},
    "multi_capture": True,
    "reference": {"kind": "charge", "id": "chg_1"},
}


def test_each_field_is_plain_or_listed_here() -> None:
    plain = {"transfer_id", "debit_account_id", "credit_account_id", "amount", "code"}
    assert {field.name for field in pb.Transfer.DESCRIPTOR.fields} == plain | set(MORE)


@pytest.mark.parametrize("name", MORE)
def test_what_a_transfer_says_is_read(name: str) -> None:
    said = pb.Transfer()
    said.CopyFrom(PLAIN)
    said.MergeFrom(pb.Transfer(**{name: MORE[name]}))
    read, plain = books.transfer_of(said), books.transfer_of(PLAIN)
    assert isinstance(read, Transfer)
    assert isinstance(plain, Transfer)
    assert read != plain
    assert plain.is_plain
