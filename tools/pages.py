"""Writes generated files, or checks that they are what would be written."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(root: Path, texts: Mapping[str, str], *, check: bool, as_what: str) -> int:
    """Write files, or with `check` say how they differ; returns the exit code.

    Args:
        texts: what each file should hold, by its path below `root`.
        as_what: what they are made from, for the line that says all is well.
    """
    stale = False
    for name, text in texts.items():
        path = root / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            continue
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if differs := difference(found, text):
            print(f"{name} is stale; `make generate` writes it:\n{differs}", file=sys.stderr)
            stale = True
    if check and not stale:
        print(f"pages: as {as_what}")
    return 1 if stale else 0


def difference(found: str, wanted: str) -> str:
    """Return how a page differs from what it should be; empty when it does not."""
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "found", "wanted", lineterm=""
    )
    return "\n".join(list(lines)[:40])


def cell(text: str) -> str:
    """Escape a text for a cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
