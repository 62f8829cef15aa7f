"""Transfers of a file: their ids follow from what they move, and what is linked stays in one call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2

from services.cli import items
from services.cli.commands import transfers
from services.cli.commands.transfers import batches, with_ids
from services.cli.errors import EXIT_USAGE, CliError

ONE = '{debit_account_id: a, credit_account_id: b, amount: {currency_code: USD, minor_units: "%s"}}'


def transfer(
    minor_units: int = 5, *, linked: bool = False, own_id: str = ""
) -> ledger_pb2.Transfer:
    made = ledger_pb2.Transfer(
        transfer_id=own_id, debit_account_id="a", credit_account_id="b", linked=linked
    )
    made.amount.currency_code, made.amount.minor_units = "USD", minor_units
    return made


def ids(*given_: ledger_pb2.Transfer, salt: str = "") -> list[str]:
    return [found.transfer_id for found in with_ids(given_, salt)]


def test_an_id_follows_from_the_content_and_from_how_often_it_came() -> None:
    first = ids(transfer(1), transfer(2), transfer(1))
    assert len({*first}) == 3
    assert ids(transfer(1), transfer(2), transfer(1)) == first
    # Where it stands does not matter: a line put in front posts nothing again.
    assert ids(transfer(9), transfer(2), transfer(1), transfer(1))[1:] == [
        *(first[1], first[0], first[2])
    ]
    assert not {*ids(transfer(1), transfer(2), transfer(1), salt="s")} & {*first}
    own = "0190c1de-0000-7000-8000-000000000000"
    assert ids(transfer(1, own_id=own), transfer(1)) == [own, first[0]]
    said = transfer(1)
    said.kind = ledger_pb2.KIND_POSTED
    assert ids(said) == first[:1]


def test_ids_that_are_derived_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "DERIVED_IDS_MAX", 2)
    with pytest.raises(CliError, match="have no transfer_id") as refused:
        ids(transfer(1), transfer(2), transfer(3))
    assert refused.value.exit_code == EXIT_USAGE


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 6))
def test_what_is_linked_is_in_one_call_and_nothing_is_lost(linked: list[bool], most: int) -> None:
    wanted = [transfer(n + 1, linked=is_linked) for n, is_linked in enumerate(linked)]
    longest = length = 0
    for is_linked in linked:
        length += 1
        longest = max(longest, length)
        length = length if is_linked else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfers, "TRANSFERS_PER_CALL", most)
        if longest > most:
            with pytest.raises(CliError, match="too many for one call"):
                list(batches(wanted))
            return
        found = list(batches(wanted))
    assert [item for batch in found for item in batch] == wanted
    assert all(len(batch) <= most for batch in found)
    assert all(not batch[-1].linked for batch in found[:-1])


def test_what_was_read_before_a_fault_is_given_without_an_open_chain() -> None:
    def broken() -> Iterator[ledger_pb2.Transfer]:
        yield from (transfer(1), transfer(2, linked=True), transfer(3, linked=True))
        raise CliError("line 4 is not a transfer")

    given_: list[list[ledger_pb2.Transfer]] = []
    with pytest.raises(CliError, match="line 4"):
        given_.extend(batches(broken()))
    assert given_ == [[transfer(1)]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", f"transfers:\n  - {ONE % 1}\n  - {ONE % 2}"),
        ("a.yml", f"[{ONE % 1}, {ONE % 2}]"),
        ("as-from-a-pipe", f"# two\n- {ONE % 1}\n- {ONE % 2}"),
        ("a.json", '{"transfers": [%s, %s]}'),
        ("a.json", "[%s,\n%s]"),
        ("a.jsonl", "%s\n\n%s\n"),
    ],
)
def test_files_of_every_form_are_read(tmp_path: Path, name: str, content: str) -> None:
    one = '{"debit_account_id": "a", "credit_account_id": "b", "amount": {"currency_code": "USD", "minor_units": "%d"}}'
    file = tmp_path / name
    file.write_text(content % (one % 1, one % 2) if "%s" in content else content)
    found = list(items.messages(str(file), "transfers", ledger_pb2.Transfer))
    assert found == [transfer(1), transfer(2)]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.yaml", "5", "holds no transfers"),
        ("a.yaml", "transfers: 5", "holds no transfers"),
        (
            "a.yaml",
            f"[{ONE % 1}, {{debit: a}}]",
            r"transfers\[1\] is not a valid Transfer: 'debit'",
        ),
        ("a.jsonl", '{"code": 1}\n\n{"code": 1.5}', "line 3 is not a valid Transfer: code"),
        ("a.json", '[{"code": 1},\n{"debit_account_id": 5}]', "line 2 .* is the number 5"),
        ("a.json", '[{"code": 1},\n{"code": }]', "line 2 is not valid JSON"),
        ("a.json", '[{"code": 1}', "isn't valid JSON: the text ends inside"),
        ("a.json", "transfers: {", "isn't valid YAML or JSON"),
        ("a.json", "transfer: []", "is not a valid Transfer: 'transfer'"),
        ("a.json", "", "holds no transfers"),
        ("a.json", "[{\udcff}]", "line 1"),
    ],
)
def test_the_place_of_what_is_wrong_is_named(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    file = tmp_path / name
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(CliError, match=told) as refused:
        list(items.messages(str(file), "transfers", ledger_pb2.Transfer))
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("number", ["1e3", "1000", "1.50", "-0", "1E+2", "0.5"])
@pytest.mark.parametrize(
    "form",
    [
        "transfers: [{debit_account_id: %s}]",
        "transfers: [{metadata: {k: %s}}]",
        '[{"debit_account_id": %s}]',
        '{"debit_account_id": %s}',
    ],
)
def test_the_advice_to_quote_a_number_keeps_what_was_written(
    tmp_path: Path, form: str, number: str
) -> None:
    file = tmp_path / "transfers.yaml"
    file.write_text(form % number)
    with pytest.raises(CliError, match=re.escape(f"is the number {number},")) as refused:
        [*items.messages(str(file), "transfers", ledger_pb2.Transfer)]
    assert refused.value.hints == (
        f'ids, amounts and quantities are strings: write "{number}", with the quotes',
    )
    file.write_text(form % f'"{number}"')
    (found,) = items.messages(str(file), "transfers", ledger_pb2.Transfer)
    assert number in (found.debit_account_id, found.metadata["k"])
