"""The body of `tollmesh api`."""

from __future__ import annotations

import pytest

from services.cli import strict_json
from services.cli.commands.api import json_text
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.reflection import body


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        (
            '{"a": 9223372036854775807, "b": [1.5, true, null]}',
            [{"a": 2**63 - 1, "b": [1.5, True, None]}],
        ),
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("[]", [[]]),
    ],
)
def test_documents_are_read_exactly(text: str, documents: list[object]) -> None:
    assert body(text) == documents


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not valid JSON"),
        ('{"a": 1, "a": 2}', "is not valid JSON"),
        ('{"a": 0.12345678901234567}', "write it as a string"),
        ('{"a": 1e999}', "write it as a string"),
    ],
)
def test_what_is_ambiguous_is_refused(text: str, told: str) -> None:
    with pytest.raises(CliError, match=told) as refused:
        body(text)
    assert refused.value.exit_code == EXIT_USAGE


def test_an_answer_keeps_its_digits_and_reaches_no_terminal() -> None:
    text = '{"n": 0.12345678901234567890, "t": "\\u202eü", "l": [1, {}], "o": {"a": null}}'
    read = strict_json.decode(text)
    assert json_text(read, None) == (
        '{"n": 0.12345678901234567890, "t": "\\u202e\\u00fc", "l": [1, {}], "o": {"a": null}}'
    )
    assert json_text(read, "").splitlines() == [
        "{",
        '  "n": 0.12345678901234567890,',
        '  "t": "\\u202e\\u00fc",',
        '  "l": [',
        "    1,",
        "    {}",
        "  ],",
        '  "o": {',
        '    "a": null',
        "  }",
        "}",
    ]
