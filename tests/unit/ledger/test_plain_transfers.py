"""The short way of plain transfers says the same as the long one: of what a message means, and of what it does."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2 as pb
from payments.type.v1.type_pb2 import Money

from services.ledger.domain.transfers import Transfer
from services.ledger.messages import books as messages

PLAIN = {"transfer_id", "debit_account_id", "credit_account_id", "amount", "code", "kind"}
ODD_TEXTS = st.sampled_from(
    [
        "",
        "a",
        "A.b_c:d-9",
        "a" * 200,
        "a" * 201,
        "a b",
        "a|b",
        "ä",
        "a\n",
        "a\x00",
        "USD",
        "usd",
        "U|S",
    ]
)
IDS = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda each: str(each).upper()),
    st.uuids().map(lambda each: each.hex),
    st.uuids().map(lambda each: f"{{{each}}}"),
    ODD_TEXTS,
)


@st.composite
def messages_of_transfers(draw: st.DrawFn) -> pb.Transfer:
    """Transfers that are nearly plain, and some that are."""
    item = pb.Transfer(
        transfer_id=draw(IDS), debit_account_id=draw(ODD_TEXTS), credit_account_id=draw(ODD_TEXTS)
    )
    if draw(st.booleans()):
        item.amount.CopyFrom(
            Money(
                currency_code=draw(ODD_TEXTS),
                minor_units=draw(st.integers(-(2**63), 2**63 - 1)),
            )
        )
    item.code = draw(st.sampled_from([0, 1, 65535, 65536, -1]))
    item.kind = draw(st.sampled_from([0, 0, 1, 2, 3, 9, -1]))  # type: ignore[assignment] # also odd ones
    return item


@settings(max_examples=400)
@given(messages_of_transfers())
def test_both_ways_read_the_same(item: pb.Transfer) -> None:
    whole = vars(messages)["_transfer_of"](item)
    assert messages.transfer_of(item) == whole


def _set(item: pb.Transfer, field: FieldDescriptor) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item.metadata["k"] = "v"
    elif field.message_type is not None:
        getattr(item, field.name).SetInParent()
    else:
        values: dict[int, Any] = {
            FieldDescriptor.CPPTYPE_BOOL: True,
            FieldDescriptor.CPPTYPE_STRING: str(UUID(int=7)),
            FieldDescriptor.CPPTYPE_INT32: 7,
            FieldDescriptor.CPPTYPE_ENUM: 2,
        }
        setattr(item, field.name, values[field.cpp_type])


@pytest.mark.parametrize(
    "field", [f for f in pb.Transfer.DESCRIPTOR.fields if f.name not in PLAIN], ids=lambda f: f.name
)
def test_a_transfer_with_anything_else_goes_the_long_way(field: FieldDescriptor) -> None:
    plain = pb.Transfer(
        transfer_id=str(UUID(int=1)),
        debit_account_id="a",
        credit_account_id="b",
        amount=Money(currency_code="USD", minor_units=1),
    )
    short_way = vars(messages)["_plain_transfer_of"]
    assert short_way(plain) is not None
    _set(plain, field)
    assert short_way(plain) is None


def test_the_short_way_is_that_of_transfers_that_are_plain() -> None:
    plain = pb.Transfer(
        transfer_id=str(UUID(int=1)),
        debit_account_id="a",
        credit_account_id="b",
        amount=Money(currency_code="USD", minor_units=1),
        code=3,
    )
    read = messages.transfer_of(plain)
    assert read == vars(messages)["_transfer_of"](plain)
    assert isinstance(read, Transfer)
    assert read.is_plain
