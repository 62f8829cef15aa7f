"""Receipts of usage: each event in its receipt, each receipt in the log, the log never rewritten, the bill of that log.

The rules are written down a second time, from what `payments/metering/v1/receipts.proto` says of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from tollmesh_verify import sealing, trees, verifying
from tollmesh_verify.reading import Refused, parse, printable, shown
from tollmesh_verify.report import Verdict, as_decimal
from tollmesh_verify.shape import (
    A_DECIMAL,
    HASH,
    ID,
    INT64,
    TEXT,
    TIME,
    ByName,
    Fields,
    Flag,
    Items,
    Text,
    Whole,
    decimal,
    names,
    whole,
)

RECEIPT_FORMAT = "tollmesh.receipt.v1"
CONSISTENCY_FORMAT = "tollmesh.consistency.v1"
FILES_MAX = 1_000
_LEAF_FORMAT = 1
_SHOWN = 100
_SOURCES = {"SOURCE_FORM_SUBMIT": 1, "SOURCE_BACKEND": 2, "SOURCE_REPLAY": 3}
_KINDS = ("INGEST", "AMEND", "CANCEL", "REPLAY")
_CORRECTIONS = ("AMEND", "CANCEL")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SHORT_HASH = Text(re.compile(r"[0-9a-f]{32}"), "32 hexadecimal digits", may_be_empty=False)
_HASH = Text(HASH.form, HASH.must, may_be_empty=False)
_HEAD = Fields(
    {"tenant_id": ID, "tree_size": INT64, "root_hash": _HASH, "closed_at": TIME},
    ("tenant_id", "tree_size", "root_hash", "closed_at"),
)
_PROOF = Fields({"leaf_index": INT64, "tree_size": INT64, "hashes": Items(_HASH)}, ("tree_size",))
_RECEIPT = Fields(
    {
        "receipt_id": ID,
        "tenant_id": ID,
        "kind": names("RECEIPT_KIND_", " ".join(_KINDS)),
        "accepted": Whole(),
        "duplicate": Whole(),
        "conflict": Whole(),
        "rejected": Whole(),
        "recorded_at": TIME,
        "ordinal": INT64,
        "events_root": _HASH,
        "leaf_hash": _HASH,
        "inclusion_proof": _PROOF,
        "head": _HEAD,
    },
    (
        "receipt_id",
        "tenant_id",
        "kind",
        "recorded_at",
        "ordinal",
        "events_root",
        "leaf_hash",
        "inclusion_proof",
        "head",
    ),
)
_CONTENT = Fields(
    {
        "request_id": ID,
        "org_id": ID,
        "project_id": TEXT,
        "sku": ID,
        "quantity": A_DECIMAL,
        "event_time": TIME,
        "source": names("SOURCE_", "FORM_SUBMIT BACKEND REPLAY"),
        "metadata": ByName(TEXT),
    },
    ("request_id", "org_id", "sku", "quantity", "event_time", "source"),
)
_EVENT = Fields(
    {
        "event": _CONTENT,
        "version": Whole(),
        "cancelled": Flag(),
        "reason": TEXT,
        "event_key": _SHORT_HASH,
        "fingerprint": _SHORT_HASH,
        "leaf_hash": _HASH,
    },
    ("event", "event_key", "fingerprint", "leaf_hash"),
)
_RECEIPT_FILE = Fields({"receipt": _RECEIPT, "events": Items(_EVENT)}, ("receipt",))
_CONSISTENCY_FILE = Fields(
    {"first": _HEAD, "second": _HEAD, "hashes": Items(_HASH)}, ("first", "second")
)
_BODIES = {RECEIPT_FORMAT: _RECEIPT_FILE, CONSISTENCY_FORMAT: _CONSISTENCY_FILE}

Message = Mapping[str, Any]


def document_of(form: str, body: Message) -> dict[str, Any]:
    """Return what a file of a format holds, sealed."""
    return {"format": form, **body, "seal": sealing.seal_of_one(body)}


@dataclass(frozen=True)
class ReceiptFinding:
    """A value of a file that is not what it comes to when it is computed again."""

    file: str
    field: str
    written: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: written {self.written}, recomputed {self.recomputed}"


@dataclass
class ReceiptsReport:
    """All that was found of some files.

    Attributes:
        told: lines of what was looked at, for people, each with the file that it is of.
        gaps: what the files do not hold enough of to verify it.
    """

    receipts: int = 0
    events: int = 0
    charges: int = 0
    findings: list[ReceiptFinding] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """DIFFERENT with a finding, INCOMPLETE with a gap, VERIFIED only without both."""
        if self.findings:
            return Verdict.DIFFERENT
        return Verdict.INCOMPLETE if self.gaps else Verdict.VERIFIED

    def note(self, file: str, what: str, written: object, recomputed: object) -> None:
        """Add a finding."""
        self.findings.append(ReceiptFinding(file, what, shown(written), shown(recomputed)))

    def same(self, file: str, what: str, written: object, recomputed: object) -> None:
        """Add a finding unless both are the same."""
        if written != recomputed:
            self.note(file, what, written, recomputed)

    def lines_of_text(self) -> Iterator[str]:
        """Tell it to people, in lines that hold nothing a terminal would obey."""
        return map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        wrong = {item.file for item in self.findings}
        unknown = {file for file, _ in self.gaps}
        for file, what in self.told:
            state = "verified"
            if file in wrong:
                state = "DIFFERENT"
            elif file in unknown:
                state = "not verified"
            yield f"{file}: {what}: {state}"
        for title, items in (
            ("different", [*map(str, self.findings)]),
            ("cannot be verified", [f"{file}: {what}" for file, what in self.gaps]),
        ):
            for text in items[:_SHOWN]:
                yield f"{title}: {text}"
            if len(items) > _SHOWN:
                yield f"{title}: and {len(items) - _SHOWN} more"
        counted = ", ".join(
            _count(number, noun)
            for number, noun in (
                (self.receipts, "receipt"),
                (self.events, "event"),
                (self.charges, "charge"),
            )
        )
        if self.verdict is Verdict.VERIFIED:
            yield f"verified: {counted}"
        elif self.verdict is Verdict.INCOMPLETE:
            yield f"not verified: {counted}; nothing differs, but not everything can be proven"
        else:
            yield f"DIFFERENT: {len(self.findings):,} found in {counted}"

    def document(self) -> dict[str, Any]:
        """Tell it to programs."""
        return {
            "verdict": self.verdict.value,
            "receipts": self.receipts,
            "events": self.events,
            "charges": self.charges,
            "findings": [vars(item) for item in self.findings],
            "gaps": [{"file": file, "what": what} for file, what in self.gaps],
        }


def verify_receipts(
    files: Sequence[tuple[str, bytes]], charge: tuple[str, bytes] | None = None
) -> ReceiptsReport:
    """Verify files of receipts and of consistency, and whether the bill of an exported charge is of their log.

    Args:
        files: each with the name that it is told by.
        charge: what `tollmesh explain --export` wrote.

    Raises:
        Refused: a file is none of these; the message says why.
    """
    if len(files) > FILES_MAX:
        raise Refused(f"there are more than {FILES_MAX:,} files")
    log = _Log(ReceiptsReport())
    for name, content in files:
        try:
            log.take(shown(name), content)
        except Refused as error:
            raise Refused(f"{shown(name)}: {error}") from error
    log.link()
    if charge is not None:
        name, content = charge
        try:
            log.bill(shown(name), content)
        except Refused as error:
            raise Refused(f"{shown(name)}: {error}") from error
    return log.report


@dataclass(frozen=True)
class _Held:
    """A receipt that is held, by the file that it came in."""

    file: str
    receipt: Message
    events: Sequence[Message]

    @property
    def ordinal(self) -> int:
        return whole(self.receipt, "ordinal")

    @property
    def size(self) -> int:
        return whole(self.receipt["head"], "tree_size")


class _Log:
    """What the files say of one log."""

    def __init__(self, report: ReceiptsReport) -> None:
        self.report = report
        self._held: list[_Held] = []
        self._roots: dict[int, tuple[str, str]] = {}
        self._proofs: list[tuple[int, int]] = []
        self._group: dict[int, int] = {}
        self._tenant: str | None = None

    # ---- One file

    def take(self, file: str, content: bytes) -> None:
        tree = parse(content)
        form = tree.get("format")
        shape = _BODIES.get(form) if isinstance(form, str) else None
        if shape is None:
            raise Refused(
                f"its format is {shown(form)!r}, and {RECEIPT_FORMAT} or {CONSISTENCY_FORMAT} is read here"
            )
        body = {key: item for key, item in tree.items() if key not in ("format", "seal")}
        changed = sealing.changes_of_one(body, tree.get("seal"))
        problems = [*shape.problems(body, "")]
        if problems and not changed:
            first = problems[0]
            told = "" if first.value is None else f": {shown(first.value)}"
            raise Refused(f"{first.path}{told} {first.must}")
        before = len(self.report.findings)
        if not problems:
            if form == RECEIPT_FORMAT:
                self._take_receipt(file, body)
            else:
                self._take_consistency(file, body)
        known = {item.field for item in self.report.findings[before:]}
        told_of = [
            ReceiptFinding(file, item.field, shown(item.written), item.recomputed)
            for item in changed
            if item.field not in known
        ]
        self.report.findings[before:before] = told_of

    def _take_receipt(self, file: str, body: Message) -> None:
        receipt, events = body["receipt"], body.get("events", [])
        self.report.receipts += 1
        self.report.events += len(events)
        kind = receipt["kind"].removeprefix("RECEIPT_KIND_")
        count = _count(len(events), "event")
        what = f"receipt {receipt['receipt_id']} ({kind}, ordinal {receipt['ordinal']}), {count}"
        self.report.told.append((file, what))
        same = self.report.same
        leaves = [*self._leaves(file, kind, events)]
        same(file, "receipt.accepted", whole(receipt, "accepted"), len(events))
        root = trees.root_of(leaves).hex()
        same(file, "receipt.events_root", receipt["events_root"], root)
        leaf = _receipt_leaf(receipt, kind, root)
        same(file, "receipt.leaf_hash", receipt["leaf_hash"], leaf.hex())
        proof, head = receipt["inclusion_proof"], receipt["head"]
        ordinal, size = whole(receipt, "ordinal"), whole(head, "tree_size")
        at = "receipt.inclusion_proof"
        same(file, f"{at}.leaf_index", whole(proof, "leaf_index"), ordinal - 1)
        same(file, f"{at}.tree_size", whole(proof, "tree_size"), size)
        path = [bytes.fromhex(each) for each in proof.get("hashes", [])]
        found = trees.root_by_inclusion(leaf, ordinal - 1, size, path)
        if found is None:
            self.report.note(
                file, f"{at}.hashes", f"{len(path)} hashes", "as many as lead to the root"
            )
        else:
            same(file, "receipt.head.root_hash", head["root_hash"], found.hex())
        self._take_tenant(file, "receipt.tenant_id", receipt["tenant_id"])
        self._take_head(file, "receipt.head", head)
        self._held.append(_Held(file, receipt, events))

    def _leaves(self, file: str, kind: str, events: Sequence[Message]) -> Iterator[bytes]:
        before = ""
        for number, item in enumerate(events):
            at = f"events[{number}]"
            key = hashlib.blake2b(item["event"]["request_id"].encode(), digest_size=16).hexdigest()
            self.report.same(file, f"{at}.event_key", item["event_key"], key)
            if item["event_key"] <= before:
                self.report.note(
                    file, f"{at}.event_key", item["event_key"], "events in order, each once"
                )
            before = item["event_key"]
            is_correction = kind in _CORRECTIONS
            if (whole(item, "version") > 0) is not is_correction:
                self.report.note(
                    file, f"{at}.version", whole(item, "version"), "0 unless it is a correction"
                )
            self.report.same(
                file, f"{at}.cancelled", item.get("cancelled", False), kind == "CANCEL"
            )
            leaf = _event_leaf(item)
            self.report.same(file, f"{at}.leaf_hash", item["leaf_hash"], leaf.hex())
            yield leaf

    def _take_consistency(self, file: str, body: Message) -> None:
        first, second = body["first"], body["second"]
        sizes = whole(first, "tree_size"), whole(second, "tree_size")
        self.report.told.append((file, f"the log of {sizes[1]} begins with the log of {sizes[0]}"))
        self._take_head(file, "first", first)
        self._take_head(file, "second", second)
        path = [bytes.fromhex(each) for each in body.get("hashes", [])]
        roots = [bytes.fromhex(each["root_hash"]) for each in (first, second)]
        if trees.is_consistent(sizes[0], roots[0], sizes[1], roots[1], path):
            self._proofs.append(sizes)
        else:
            self.report.note(
                file, "hashes", f"{len(path)} hashes", "a proof that leads to both roots"
            )

    def _take_tenant(self, file: str, what: str, tenant_id: str) -> None:
        if self._tenant is None:
            self._tenant = tenant_id
        self.report.same(file, what, tenant_id, self._tenant)

    def _take_head(self, file: str, what: str, head: Message) -> None:
        self._take_tenant(file, f"{what}.tenant_id", head["tenant_id"])
        self._take_root(file, f"{what}.root_hash", whole(head, "tree_size"), head["root_hash"])

    def _take_root(self, file: str, what: str, size: int, root: str) -> None:
        other, known = self._roots.setdefault(size, (file, root))
        if known != root:
            told = f"{known} as in {other}, the log of {size}: it was rewritten"
            self.report.findings.append(ReceiptFinding(file, what, root, told))

    # ---- Together

    def link(self) -> None:
        """Find which heads are proven to be of one log, and what of that is open."""
        for size in self._roots:
            self._group.setdefault(size, size)
        for first, second in self._proofs:
            self._join(first, second)
        seen: dict[str, dict[object, _Held]] = {"ordinal": {}, "receipt_id": {}}
        for held in self._held:
            for name, by_value in seen.items():
                other = by_value.setdefault(held.receipt[name], held)
                self.report.same(
                    held.file,
                    "receipt.leaf_hash",
                    held.receipt["leaf_hash"],
                    other.receipt["leaf_hash"],
                )

    def _join(self, first: int, second: int) -> None:
        old, new = self._group[first], self._group[second]
        for size, group in self._group.items():
            if group == old:
                self._group[size] = new

    # ---- The bill

    def bill(self, file: str, content: bytes) -> None:
        """Compare an exported charge with the log."""
        found = verifying.verify(content)
        for item in found.findings:
            self.report.findings.append(
                ReceiptFinding(file, f"{item.place}: {item.field}", item.written, item.recomputed)
            )
        self.report.gaps += [(file, str(gap)) for gap in found.gaps]
        self.report.charges += found.charges
        if found.findings:
            return
        for charge in parse(content)["charges"]:
            self._bill(file, charge)

    def _bill(self, file: str, charge: Message) -> None:
        name = charge["charge_id"]
        proofs = [item["line"]["proof"] for item in charge.get("lines", [])]
        known = [each for each in proofs if "usage_ordinal" in each]
        if charge["kind"] == "CHARGE_KIND_REVERSAL" or not proofs:
            return
        if not known or not known[0].get("usage_log_root"):
            self.report.gaps.append(
                (file, f"charge {name} names no root of the log: it was made before there was one")
            )
            return
        size, root = whole(known[0], "usage_ordinal"), known[0]["usage_log_root"]
        self._take_root(file, f"charge {name}: usage_log_root", size, root)
        self._group.setdefault(size, size)
        inside = [held for held in self._held if held.ordinal <= size]
        for held in inside:
            if self._group[held.size] != self._group[size]:
                told = (
                    f"nothing proves that its head of {held.size} and the bill's of {size} are of one log: add what"
                    f" `tollmesh receipts consistency {min(held.size, size)} {max(held.size, size)}` writes, or get"
                    f" the receipt with --tree-size {size}"
                )
                self.report.gaps.append((held.file, told))
        counted, outside = self._counted(charge, inside)
        behind = len(self._held) - len(inside)
        number = sum(counts.number for counts in counted.values())
        words = [f"{_count(number, 'event')} held in the bill"]
        if outside:
            words.append(f"{outside:,} elsewhere or no more")
        if behind:
            words.append(f"{_count(behind, 'receipt')} behind it")
        self.report.told.append(
            (file, f"charge {name} of the log of {_count(size, 'receipt')}, {', '.join(words)}")
        )
        if charge["kind"] == "CHARGE_KIND_USAGE":
            is_whole = {held.ordinal for held in inside} == set(range(1, size + 1))
            self._compare(file, charge, counted, is_whole=is_whole)

    def _counted(self, charge: Message, inside: Sequence[_Held]) -> tuple[dict[str, _Counts], int]:
        """Sum up by SKU what the receipts say of the bill's organisation and period, and count the rest."""
        newest: dict[str, Message] = {}
        for held in sorted(inside, key=lambda each: each.ordinal):
            for item in held.events:
                newest[item["event_key"]] = item
        start, end = (microseconds(charge["period"][name]) for name in ("start_at", "end_at"))
        counted: dict[str, _Counts] = {}
        outside = 0
        for item in newest.values():
            said = item["event"]
            at = microseconds(said["event_time"])
            is_of_it = said["org_id"] == charge["org_id"] and start <= at < end
            if item.get("cancelled") or not is_of_it:
                outside += 1
            else:
                counted.setdefault(said["sku"], _Counts()).add(decimal(said, "quantity"))
        return counted, outside

    def _compare(
        self, file: str, charge: Message, counted: Mapping[str, _Counts], *, is_whole: bool
    ) -> None:
        billed: dict[str, tuple[str, Fraction]] = {}
        for item in charge.get("lines", []):
            line = item["line"]
            sku, how = line["sku"], line["proof"].get("aggregation", "")
            _, before = billed.get(sku, ("", Fraction(0)))
            billed[sku] = how, before + decimal(line, "quantity")
        for sku in sorted({*counted, *billed}):
            held = counted.get(sku, _Counts())
            how, quantity = billed.get(sku, ("AGGREGATION_SUM", Fraction(0)))
            amounts = {"AGGREGATION_SUM": held.quantity, "AGGREGATION_COUNT": Fraction(held.number)}
            expected = amounts.get(how)
            if expected is None or (expected <= quantity and not is_whole):
                continue
            what = f"charge {charge['charge_id']}: quantity of {shown(sku)}"
            if expected > quantity and not is_whole:
                told = f"at least {as_decimal(expected)}, what the receipts say"
                self.report.note(file, what, as_decimal(quantity), told)
            else:
                self.report.same(file, what, as_decimal(quantity), as_decimal(expected))


@dataclass
class _Counts:
    """Events, and what they come to."""

    number: int = 0
    quantity: Fraction = Fraction(0)

    def add(self, quantity: Fraction) -> None:
        self.number += 1
        self.quantity += quantity


def microseconds(text: str) -> int:
    """Return a time as microseconds since 1970."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    try:
        moment = datetime.fromisoformat(f"{seconds}+00:00")
    except ValueError as error:
        raise Refused(f"it has the time {shown(text)}, which is none") from error
    whole_seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return whole_seconds * 1_000_000 + int(fraction.ljust(6, "0")[:6] or 0)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _event_leaf(item: Message) -> bytes:
    said = item["event"]
    return _leaf(
        {
            "cancelled": int(item.get("cancelled", False)),
            "event_key": item["event_key"],
            "event_time_us": microseconds(said["event_time"]),
            "fingerprint": item["fingerprint"],
            "format": _LEAF_FORMAT,
            "metadata": said.get("metadata", {}),
            "org_id": said["org_id"],
            "project_id": said.get("project_id", ""),
            "quantity": said["quantity"],
            "reason": item.get("reason", ""),
            "request_id": said["request_id"],
            "sku": said["sku"],
            "source": _SOURCES[said["source"]],
            "version": whole(item, "version"),
        }
    )


def _receipt_leaf(receipt: Message, kind: str, events_root: str) -> bytes:
    return _leaf(
        {
            "accepted": whole(receipt, "accepted"),
            "conflict": whole(receipt, "conflict"),
            "duplicate": whole(receipt, "duplicate"),
            "events_root": events_root,
            "format": _LEAF_FORMAT,
            "kind": kind,
            "ordinal": whole(receipt, "ordinal"),
            "receipt_id": receipt["receipt_id"],
            "recorded_at_us": microseconds(receipt["recorded_at"]),
            "rejected": whole(receipt, "rejected"),
            "tenant_id": receipt["tenant_id"],
        }
    )


def _leaf(record: dict[str, object]) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return trees.leaf_hash(text.encode())
