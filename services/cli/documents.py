"""Files that a person writes, in YAML; JSON is YAML, too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from services.cli.errors import EXIT_USAGE, CliError


def read_yaml(file: str) -> Any:
    """Read a document from a file, or from standard input for `-`.

    Raises:
        CliError: it cannot be read, or is no YAML.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", exit_code=EXIT_USAGE) from error
    except UnicodeDecodeError as error:
        raise CliError(
            f"{file} is not UTF-8 at byte {error.start}", exit_code=EXIT_USAGE
        ) from error
    try:
        return yaml.safe_load(text)
    # ValueError: a date that no calendar has.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CliError(f"{file} is no YAML: {error}", exit_code=EXIT_USAGE) from error
