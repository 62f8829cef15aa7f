"""The body of `tollmesh api`."""

from __future__ import annotations

import pytest

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
