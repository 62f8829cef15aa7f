"""`key=value` pairs of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from services.cli.errors import EXIT_USAGE, CliError


def metadata_of(pairs: Sequence[str]) -> dict[str, str]:
    """Read the values of `--metadata`.

    Raises:
        CliError: one has no `=`, or a key is given twice.
    """
    return pairs_of("--metadata", pairs, "reason=correction")


def pairs_of(option: str, pairs: Sequence[str], example: str) -> dict[str, str]:
    """Read the values of an option; `example` is one.

    Raises:
        CliError: one has no `=`, or a key is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not (key and separator):
            raise CliError(
                f"{pair!r} is not of the form key=value",
                f"write e.g. {option} '{example}'"
                if " " in example
                else f"write e.g. {option} {example}",
                exit_code=EXIT_USAGE,
            )
        if key in found:
            raise CliError(f"{option} {key} is given more than once", exit_code=EXIT_USAGE)
        found[key] = value
    return found
