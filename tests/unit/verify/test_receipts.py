"""Receipts: what is whole is verified; whatever is changed of a file is found, and named; the bill is of the log."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.errors import EXIT_DIFFERENT, EXIT_INCOMPLETE, EXIT_USAGE
from services.cli.output import as_dict
from services.metering.domain.events import EventContent, digest
from services.metering.domain.log import (
    Consistency,
    LoggedEvent,
    LogHead,
    ReceiptProof,
    StoredReceipt,
    event_leaf,
    receipt_leaf,
)
from services.metering.domain.merkle import (
    Growing,
    consistency_spans,
    hash_of,
    inclusion_spans,
    root,
    root_of,
)
from services.metering.domain.receipts import ReceiptKind
from services.metering.messages import log as messages
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.prices import Price
from tests.support.billing import exported
from tests.support.billing.alone import copied, verify_alone
from tests.support.billing.exported import PERIOD, Catalogue, Used
from tollmesh_verify import (
    CONSISTENCY_FORMAT,
    RECEIPT_FORMAT,
    ReceiptsReport,
    Refused,
    Verdict,
    document_of,
    seal,
    verify_receipts,
)

TENANT = "amber"
AT = PERIOD.start_at + timedelta(days=3, microseconds=7)
KINDS = (ReceiptKind.INGEST, ReceiptKind.INGEST, ReceiptKind.AMEND, ReceiptKind.CANCEL)


def an_event(
    request_id: str,
    quantity: str,
    version: int = 0,
    *,
    cancelled: bool = False,
    org_id: str = "acme",
    at: datetime = AT,
) -> LoggedEvent:
    content = EventContent(
        request_id, org_id, "p", "sms", Decimal(quantity), at, 2, {"k": "é", "a": ""}
    )
    reason = "misread" if version else ""
    key = digest(request_id)
    return LoggedEvent("", key, digest(quantity), version, cancelled, reason, content)


class Log:
    """A log of receipts as metering keeps it, and the files that are written of it."""

    def __init__(self, *batches: tuple[ReceiptKind, Sequence[LoggedEvent]]) -> None:
        self.receipts = []
        self.tree = Growing(0, {})
        for ordinal, (kind, events) in enumerate(batches, start=1):
            ordered = sorted(events, key=lambda each: each.event_key)
            stored = StoredReceipt(
                f"0198c5a2-7d1e-7c55-9f3e-{ordinal:012d}",
                ordinal,
                kind,
                len(ordered),
                ordinal % 2,
                0,
                3,
                datetime(2026, 2, 1, 9, 0, 0, ordinal, tzinfo=UTC),
            )
            leaf = receipt_leaf(TENANT, stored, root_of([event_leaf(each) for each in ordered]))
            self.tree.add(leaf.hash)
            self.receipts.append((stored, leaf, ordered))

    def head(self, size: int) -> LogHead:
        return LogHead(size, root(size, self.tree.hashes), datetime(2026, 2, 2, tzinfo=UTC))

    def receipt(self, ordinal: int, size: int) -> dict[str, Any]:
        stored, leaf, events = self.receipts[ordinal - 1]
        path = [hash_of(each, self.tree.hashes) for each in inclusion_spans(ordinal - 1, size)]
        told = messages.receipt(TENANT, ReceiptProof(stored, leaf, self.head(size), path))
        told.ClearField("status")
        listed = [as_dict(messages.receipt_event(each), zeros=False) for each in events]
        return document_of(
            RECEIPT_FORMAT, {"receipt": as_dict(told, zeros=False), "events": listed}
        )

    def consistency(self, first: int, second: int) -> dict[str, Any]:
        path = [hash_of(each, self.tree.hashes) for each in consistency_spans(first, second)]
        found = Consistency(self.head(first), self.head(second), path)
        told = messages.consistency(TENANT, found)
        return document_of(CONSISTENCY_FORMAT, as_dict(told, zeros=False))


LOG = Log(
    (
        ReceiptKind.INGEST,
        [an_event("a", "10"), an_event("b", "2.5"), an_event("x", "9", org_id="o")],
    ),
    (ReceiptKind.INGEST, [an_event("c", "4")]),
    (ReceiptKind.AMEND, [an_event("b", "3.5", 1)]),
    (ReceiptKind.CANCEL, [an_event("c", "4", 1, cancelled=True)]),
    (ReceiptKind.REPLAY, [an_event("d", "1"), an_event("e", "1", at=PERIOD.end_at)]),
    (ReceiptKind.INGEST, []),
    (ReceiptKind.INGEST, [an_event("late", "100")]),
)


def verified(*documents: dict[str, Any], charge: dict[str, Any] | None = None) -> ReceiptsReport:
    files = [(f"file {no}", json.dumps(each).encode()) for no, each in enumerate(documents)]
    exported_charge = None if charge is None else ("the bill", json.dumps(charge).encode())
    return verify_receipts(files, exported_charge)


def sealed_anew(document: dict[str, Any]) -> dict[str, Any]:
    body = {key: item for key, item in document.items() if key not in ("format", "seal")}
    return document_of(document["format"], body)


def a_bill(quantity: str, size: int, log: Log = LOG, tree_root: str = "") -> dict[str, Any]:
    """The export of a charge that was made of the log of a size."""
    catalogue = Catalogue({"sms": Price(per_unit=PerUnit(Decimal("0.05")))})
    rated = exported.rating(catalogue, [Used("sms", "p", ((Decimal(quantity), ""),))])
    document = exported.tree(exported.charge(rated))
    for charge in document["charges"]:
        charge["org_id"] = "acme"
        for line in charge["lines"]:
            line["line"]["proof"]["usage_ordinal"] = str(size)
            line["line"]["proof"]["usage_log_root"] = tree_root or log.head(size).root_hash.hex()
    document["seal"] = seal(document["charges"])
    return document


# ---- What is whole


def test_every_receipt_is_verified_in_every_head() -> None:
    for size in range(1, 8):
        report = verified(*(LOG.receipt(ordinal, size) for ordinal in range(1, size + 1)))
        assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    assert (report.receipts, report.events) == (7, 9)


def test_heads_are_of_one_log_where_it_is_proven() -> None:
    for first in range(1, 8):
        for second in range(first, 8):
            report = verified(LOG.consistency(first, second))
            assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.decimals(0, 10**14, places=18, allow_nan=False),
        ),
        max_size=6,
        unique_by=lambda each: each[0],
    )
)
def test_whatever_events_say_is_verified(said: list[tuple[str, Decimal]]) -> None:
    log = Log((ReceiptKind.INGEST, [an_event(name, str(amount)) for name, amount in said]))
    report = verified(log.receipt(1, 1))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]


# ---- What was changed


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a document."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path


def changed_at(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(document)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


def said_at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def another(value: Any) -> Any:
    """A value of the same kind and form, but not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value:
        last = value[-1]
        if value.endswith("Z"):
            return value[:-2] + ("1" if value[-2] == "0" else "0") + "Z"
        return value[:-1] + ("1" if last == "0" else "0")
    return "1"


def named(path: tuple[Any, ...]) -> str:
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f"{'.' if text else ''}{key}"
    return text


DOCUMENTS = [LOG.receipt(1, 7), LOG.receipt(3, 5), LOG.receipt(4, 7), LOG.consistency(3, 7)]
PLACES = [
    (number, path)
    for number, document in enumerate(DOCUMENTS)
    for path in leaves(document)
    if path[0] != "format"
]


@settings(max_examples=300)
@given(st.sampled_from(PLACES))
def test_any_field_that_is_changed_is_found_and_named(place: tuple[int, tuple[Any, ...]]) -> None:
    number, path = place
    document = DOCUMENTS[number]
    changed = changed_at(document, path, another(said_at(document, path)))
    try:
        report = verified(changed)
    except Refused as refusal:
        assert named(path) in str(refusal)
        return
    assert report.verdict is Verdict.DIFFERENT
    assert named(path) in {item.field for item in report.findings}


# What no hash is of: a head's own time. Whoever seals the file anew can change it, and nothing follows from it.
UNBOUND = ("closed_at",)


@settings(max_examples=300)
@given(st.sampled_from([each for each in PLACES if each[1][0] != "seal"]))
def test_a_file_that_is_sealed_anew_contradicts_itself(
    place: tuple[int, tuple[Any, ...]],
) -> None:
    number, path = place
    document = DOCUMENTS[number]
    changed = sealed_anew(changed_at(document, path, another(said_at(document, path))))
    if path[-1] in UNBOUND:
        return
    if path[-1] == "tenant_id" and document["format"] == CONSISTENCY_FORMAT:
        # The heads contradict one another.
        assert verified(changed).findings[0].field == "second.tenant_id"
        return
    with contextlib.suppress(Refused):
        assert verified(changed).verdict is Verdict.DIFFERENT


@settings(max_examples=200)
@given(st.data())
def test_any_byte_that_is_changed_is_found(data: st.DataObject) -> None:
    content = bytearray(json.dumps(data.draw(st.sampled_from(DOCUMENTS))).encode())
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != content[at]))
    before = json.loads(bytes(content))
    content[at] = byte
    try:
        report = verify_receipts([("file", bytes(content))])
    except Refused:
        return
    # White space between values says nothing.
    assert report.verdict is Verdict.DIFFERENT or json.loads(bytes(content)) == before


def test_what_is_left_out_added_or_turned_around_is_found() -> None:
    document = LOG.receipt(1, 7)
    events = document["events"]
    for others in (events[:-1], [*events, events[-1]], events[::-1], []):
        changed = sealed_anew({**document, "events": others})
        assert verified(changed).verdict is Verdict.DIFFERENT
    path = document["receipt"]["inclusion_proof"]["hashes"]
    for others in (path[:-1], [*path, path[0]], path[::-1], []):
        changed = copy.deepcopy(document)
        changed["receipt"]["inclusion_proof"]["hashes"] = others
        found = verified(sealed_anew(changed))
        assert found.verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"{}", "its format is"),
        (b'{"format": "tollmesh.receipt.v1"}', "its seal is incomplete"),
        (b'{"format": ["a"], "seal": {}}', "its format is"),
        (json.dumps(sealed_anew({"format": RECEIPT_FORMAT})).encode(), "receipt is missing"),
        (
            json.dumps(sealed_anew({**LOG.receipt(1, 1), "more": "1"})).encode(),
            "more: 1 is a field that this verifier does not know",
        ),
    ],
    ids=["empty", "nothing", "unsealed", "format", "missing", "unknown"],
)
def test_what_is_no_file_of_receipts_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(Refused, match=f"^receipt: {told}"):
        verify_receipts([("receipt", content)])


def test_a_log_that_was_rewritten_is_found_by_who_kept_a_receipt() -> None:
    other = Log((ReceiptKind.INGEST, [an_event("a", "11")]), (ReceiptKind.INGEST, []))
    forked = verified(LOG.receipt(1, 2), other.receipt(2, 2))
    assert "it was rewritten" in " ".join(forked.lines_of_text())
    assert forked.verdict is Verdict.DIFFERENT
    # Two receipts of one ordinal, in heads of different sizes.
    assert verified(LOG.receipt(1, 7), other.receipt(1, 2)).verdict is Verdict.DIFFERENT


# ---- The bill


def of_bill(size: int) -> list[dict[str, Any]]:
    return [LOG.receipt(ordinal, size) for ordinal in range(1, size + 1)]


def test_all_receipts_and_the_bill_of_their_log_are_verified() -> None:
    # Ten of `a`, 3.5 of `b` as it was amended, nothing of `c`, one of `d`.
    report = verified(*of_bill(6), charge=a_bill("14.5", 6))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    assert report.charges == 1
    told = " ".join(report.lines_of_text())
    assert "3 events held in the bill, 3 elsewhere or no more" in told
    before = verified(*of_bill(2), charge=a_bill("16.5", 2))
    assert before.verdict is Verdict.VERIFIED, [*before.lines_of_text()]


@pytest.mark.parametrize("quantity", ["14.4", "14.6"])
def test_a_bill_that_is_not_of_all_receipts_is_found(quantity: str) -> None:
    report = verified(*of_bill(6), charge=a_bill(quantity, 6))
    assert [item.field for item in report.findings] == ["charge chg_base: quantity of sms"]


def test_who_holds_some_receipts_sees_that_no_less_is_billed() -> None:
    held = [LOG.receipt(1, 6), LOG.receipt(5, 6)]
    assert verified(*held, charge=a_bill("14.5", 6)).verdict is Verdict.VERIFIED
    # Ten and 2.5 and one are held: an amendment that took 0.5 away was not shown.
    report = verified(*held, charge=a_bill("13", 6))
    assert "at least 13.5, what the receipts say" in " ".join(report.lines_of_text())


def test_what_came_behind_the_bill_is_told_apart() -> None:
    report = verified(LOG.receipt(1, 6), LOG.receipt(7, 7), charge=a_bill("14.5", 6))
    assert report.verdict is Verdict.VERIFIED
    assert "1 receipt behind it" in " ".join(report.lines_of_text())


def test_heads_of_other_sizes_need_a_proof_between() -> None:
    bill = a_bill("14.5", 6)
    lacking = verified(LOG.receipt(1, 2), charge=bill)
    assert lacking.verdict is Verdict.INCOMPLETE
    assert "tollmesh receipts consistency 2 6" in " ".join(lacking.lines_of_text())
    assert verified(LOG.receipt(1, 2), LOG.consistency(2, 6), charge=bill).verdict is (
        Verdict.VERIFIED
    )
    by_two = (LOG.consistency(4, 6), LOG.consistency(2, 4))
    assert verified(LOG.receipt(1, 2), *by_two, charge=bill).verdict is Verdict.VERIFIED


def test_a_bill_of_another_log_is_found() -> None:
    report = verified(LOG.receipt(1, 6), charge=a_bill("14.5", 6, tree_root="0" * 64))
    assert [item.field for item in report.findings] == ["charge chg_base: usage_log_root"]


def test_a_bill_from_before_the_log_is_not_called_verified() -> None:
    document = a_bill("14.5", 6)
    del document["charges"][0]["lines"][0]["line"]["proof"]["usage_log_root"]
    document["seal"] = seal(document["charges"])
    report = verified(LOG.receipt(1, 6), charge=document)
    assert report.verdict is Verdict.INCOMPLETE
    assert "names no root of the log" in " ".join(report.lines_of_text())


# ---- By itself


def test_it_verifies_receipts_alone_and_ends_with_the_documented_codes(tmp_path: Path) -> None:
    folder = copied(tmp_path)

    def written(name: str, document: dict[str, Any]) -> str:
        (tmp_path / name).write_text(json.dumps(document))
        return str(tmp_path / name)

    receipt = written("r.json", LOG.receipt(1, 2))
    proof = written("c.json", LOG.consistency(2, 6))
    bill = written("b.json", a_bill("14.5", 6))
    changed = changed_at(LOG.receipt(1, 2), ("events", 0, "event", "quantity"), "1")
    other = written("x.json", changed)
    done = verify_alone(folder, "receipts", receipt, proof, "--charge", bill)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "verified: 1 receipt, 3 events, 1 charge"
    for arguments, code in (
        (("receipts", receipt, "--charge", bill), EXIT_INCOMPLETE),
        (("receipts", other), EXIT_DIFFERENT),
        (("receipts", bill), EXIT_USAGE),
        (("receipts",), EXIT_USAGE),
        (("receipts", receipt, "--charge"), EXIT_USAGE),
        (("receipts", str(tmp_path / "gone.json")), EXIT_USAGE),
    ):
        assert verify_alone(folder, *arguments).returncode == code, arguments
    told = verify_alone(folder, "receipts", "--json", other)
    fields = [item["field"] for item in json.loads(told.stdout)["findings"]]
    assert "events[0].event.quantity" in fields
