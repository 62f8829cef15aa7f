"""Reads the YAML and JSON files that people write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from services.cli.errors import EXIT_USAGE, CliError
from services.runtime import documents


def read_document(file: str) -> Any:
    """Read JSON, or YAML whose scalars are those of JSON, from a file or from standard input for `-`.

    Raises:
        CliError: it cannot be read, is neither, or is ambiguous.
    """
    return parse_document(read_bytes(file, documents.BYTES_MAX + 1), file)


def parse_document(content: bytes, file: str) -> Any:
    """Read JSON, or YAML whose scalars are those of JSON, from the bytes of a file, or of standard input for `-`.

    Raises:
        CliError: it is neither, or is ambiguous.
    """
    try:
        return documents.read(content)
    except documents.DocumentUnfit as error:
        name = "standard input" if file == "-" else file
        too_long = isinstance(error, documents.DocumentTooLong)
        problem = "is too long" if too_long else "isn't valid YAML or JSON"
        raise CliError(f"{name} {problem}: {error}", exit_code=EXIT_USAGE) from error


def read_bytes(file: str, bytes_max: int = -1) -> bytes:
    """Read a file, or standard input for `-`, up to so many bytes.

    Raises:
        CliError: it cannot be read.
    """
    try:
        if file == "-":
            return sys.stdin.buffer.read(bytes_max)
        with Path(file).open("rb") as opened:
            return opened.read(bytes_max)
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", exit_code=EXIT_USAGE) from error
