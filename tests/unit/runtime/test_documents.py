"""Documents in YAML and JSON: what they hold, and what has two readings."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from services.runtime import documents
from services.runtime.documents import DocumentUnfit

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_any_reader_reads_it(value: Any) -> None:
    assert documents.read(json.dumps(value).encode()) == value
    assert documents.read(json.dumps(value, ensure_ascii=False, indent="\t").encode()) == value


@given(JSON)
@example(
    ["1e5", "no", "010", "1_000", "12:30", "~", "<<", "=", ".5", "\x85", "\u2028", "a\r\nb", "é"]
)
def test_what_is_written_reads_back(value: Any) -> None:
    written = documents.write(value)
    assert documents.read(written.encode()) == value
    # By the rules of YAML 1.1 too, where a text may look like a day or a number of its own.
    assert yaml.safe_load(written) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    try:
        json.dumps(documents.read(content), ensure_ascii=False, allow_nan=False).encode()
    except DocumentUnfit as error:
        assert str(error)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a: 1\nb: 2\na: 3", (1, 3)),
        ("x:\n  a: 1\n  a: 2", (2, 3)),
        ("- {a: 1,\n   a: 2}", (1, 2)),
        ('1: x\n"1": y', (1, 2)),
        ("true: x\n'true': y", (1, 2)),
        ("~: x\n'~': y", (1, 2)),
        ("a: 1\n? a\n: 2", (1, 2)),
        ('"\\u0061": 1\na: 2', (1, 2)),
        ("b: &b {a: 1}\nc:\n  <<: *b\n  <<: *b", (3, 4)),
        ("b: &b\n  a: 1\n  a: 2\nc:\n  <<: *b", (2, 3)),
        ('{"a": 1,\n\t"b": {"c": 1,\n\t\t"c": 2}}', (2, 3)),
        ('{"a": 1,\n\n"\\u0061": 2}', (1, 3)),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(
    content: str, lines: tuple[int, int]
) -> None:
    with pytest.raises(DocumentUnfit, match=f"twice, in lines {lines[0]} and {lines[1]}"):
        documents.read(content.encode())


def test_a_merge_is_overridden_by_a_key_of_its_own_and_repeats_nothing() -> None:
    content = b"a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: [*b, *a], z: 3}"
    assert documents.read(content)["c"] == {"x": 1, "y": 2, "z": 3}
    assert documents.read(b"'<<': 1") == {"<<": 1}


def test_keys_are_texts_as_they_stand() -> None:
    content = b"on: a\n1: b\n1.0: c\nnull: d\n2026-01-01: e\ntrue: f"
    assert list(documents.read(content)) == ["on", "1", "1.0", "null", "2026-01-01", "true"]


def test_an_anchor_may_be_key_and_value() -> None:
    assert documents.read(b"a: &x 1\n*x : 2") == {"a": 1, "1": 2}


def nested(level: bytes, join: bytes) -> bytes:
    """Ten levels, each nine times the one before."""
    head = b"a0: &a0 {k: 1}\n"
    rows = (
        b"a%d: &a%d %s\n" % (n, n, level % join.join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)
    )
    return head + b"".join(rows)


@pytest.mark.parametrize("level", [b"[%s]", b"{<<: [%s]}"])
def test_aliases_that_multiply_are_refused(level: bytes) -> None:
    with pytest.raises(DocumentUnfit, match=r"more than 1,000,000 values, in line 7"):
        documents.read(nested(level, b","))


def test_anchors_may_be_used_often() -> None:
    content = b"a: &a {x: 1, y: [1, 2]}\nb: [" + b",".join([b"*a"] * 1_000) + b"]"
    assert len(documents.read(content)["b"]) == 1_000


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: &a [*a]", "contains itself"),
        (b"a: !!binary aGk=", "not a JSON value"),
        (b"!!set {x}", "not a JSON value"),
        (b"a: !!int '010'", "not a JSON value"),
        (b"!!python/object:os.system x", "not a JSON value"),
        (b"? [a]\n: b", "a key is not a string"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e400]", "in quotes"),
        (b"a: 1e400", "in quotes, in line 1, column 4"),
        (b"[1e-1000000000000000000000]", "in quotes"),
        (b"[" + b"9" * 5_000 + b"]", "too many digits"),
        (b"a: " + b"9" * 5_000, "too many digits"),
        (b"a: 0.1000000000000000055", "in quotes, in line 1, column 4"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b"\xff\xfea\x00", "not valid UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b"- " * 100_000, "nested too deeply"),
        (b"a: 1\n---\na: 2", "another document"),
        (b" " * (documents.BYTES_MAX + 1), "longer than 16 MiB"),
    ],
)
def test_what_has_no_one_reading_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(DocumentUnfit, match=told):
        documents.read(content)


def test_a_byte_order_mark_is_no_part_of_a_document() -> None:
    for content in (b"a: 1", b'{"a": 1}'):
        assert documents.read(b"\xef\xbb\xbf" + content) == {"a": 1}


@pytest.mark.parametrize("text", ["1e3", "1.50", "-0", "-0.0", "0", "12", "1E+2", "0.5", "1e-7"])
@pytest.mark.parametrize("form", ["%s", "[%s]", "k: %s"])
def test_a_number_is_told_as_it_was_written(text: str, form: str) -> None:
    value = documents.read((form % text).encode())
    number = (
        value[0] if isinstance(value, list) else value["k"] if isinstance(value, dict) else value
    )
    assert documents.as_written(number) == text
    # It counts as any other number, to whoever calculates with it or writes it.
    assert number == json.loads(text)
    assert json.loads(json.dumps(number)) == json.loads(text)
    assert documents.read(documents.write({"k": number}).encode()) == {"k": number}
