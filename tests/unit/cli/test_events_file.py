"""Files of events that are published: cut into events whose text stays, each judged by itself."""

from __future__ import annotations

import io
import json

import pytest

from services.cli import items
from services.cli.errors import EXIT_USAGE, CliError

ONE = '{"id": "1", "subject": "a.b", "data": {"n": 1.50, "t": "]},{["}}'
TWO = '{"id":"2","subject":"a.b","data":{"n":123456789012345678901}}'


def texts(content: str) -> list[items.ItemText]:
    return list(items.texts(io.StringIO(content, newline=""), "events"))


@pytest.mark.parametrize(
    "content",
    [
        f"[{ONE}, {TWO}]",
        f"\n [\n{ONE},\n{TWO}\n]\n",
        f'{{"events": [{ONE}, {TWO}]}}',
        f'{{\n  "events" : [\n{ONE},{TWO}]\n}}\n',
        f"{ONE}\n{TWO}",
        f"\n{ONE}\r\n\r\n{TWO}\n",
    ],
)
def test_events_keep_their_text(content: str) -> None:
    assert [text.body.decode() for text in texts(content)] == [ONE, TWO]


def test_one_event_may_take_several_lines() -> None:
    content = json.dumps(json.loads(ONE), indent=2)
    (only,) = texts(content)
    assert json.loads(only.body) == json.loads(ONE)


@pytest.mark.parametrize("join", ["[%s]", '{"events": [%s]}', "%s"])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('{"id": "x", "id": "y"}', "the key 'id' appears twice"),
        ('{"data": {"a": 1, "a": 2}}', "the key 'a' appears twice"),
        ('{"data": NaN}', "NaN is not a JSON number"),
        ('{"data": }', "is not valid JSON: a value is expected at line"),
        (
            '{"data": "\\ud800"}',
            "is not valid JSON: it has an escape that is only half of a surrogate pair",
        ),
        ('{"data": "\udcff"}', "UTF-8"),
    ],
)
def test_a_wrong_event_is_named_and_costs_no_other(join: str, wrong: str, told: str) -> None:
    separator = "\n" if join == "%s" else ","
    found = texts(join % separator.join([ONE, wrong, TWO]))
    assert [bool(text.problem) for text in found] == [False, True, False]
    assert told in found[1].problem


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"\n {ONE}\n  oops\n", "line 3, column 3"),
        (f"\n [{ONE},\n oops]", "line 3, column 2"),
        (f'\n {{"events":\n [{ONE},  oops]}}', f"line 3, column {6 + len(ONE)}"),
        ("\n  {oops\n", "line 2, column 4"),
    ],
)
def test_where_an_event_is_no_json_is_told_by_the_lines_of_the_file(
    content: str, told: str
) -> None:
    assert texts(content)[-1].problem.endswith(told)


def test_two_events_of_a_line_are_not_taken_for_one() -> None:
    found = texts(f"{ONE}\n{ONE},{TWO}\n{TWO}")
    assert [bool(text.problem) for text in found] == [False, True, False]


@pytest.mark.parametrize(
    "content",
    ["", "nothing", "5", f"[{ONE}", f'{{"events": [{ONE}]', f'{{"events": [{ONE}], "more": 1}}', f"[{ONE}] x"],
)  # fmt: skip
def test_what_is_no_file_of_events_is_told(content: str) -> None:
    with pytest.raises(CliError, match="valid JSON") as refused:
        texts(content)
    assert refused.value.exit_code == EXIT_USAGE
