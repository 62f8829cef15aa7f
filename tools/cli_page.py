"""Write docs/reference/cli.md and the index of commands from the commands themselves, or check them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import inspect

from services.cli import app, tables
from services.cli.errors import EXIT_CODES
from services.cli.tables import Kind, Table
from tools import pages
from tools.pages import cell

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/cli.md"
INDEX = f"services/cli/data/{app.INDEX}"

HEAD = """\
# The command line

<!-- Written by tools/cli_page.py from services/cli.
     `make generate` writes it again; `make lint` fails when it is stale. -->

`tollmesh [--profile NAME] COMMAND …`. What can be set by the environment is in [settings](settings.md).

## Which mesh

The first of these that says it holds, for the address and for the key:

1. TOLLMESH_ADDRESS and TOLLMESH_API_KEY (and TOLLMESH_REST_URL for the facade);
2. the profile of `--profile NAME`, which stands before the command, or of TOLLMESH_PROFILE;
3. the mesh that `tollmesh up` runs in this directory, or in TOLLMESH_DATA_DIR;
4. the profile that `tollmesh profiles use` chose;
5. 127.0.0.1:7443, without a key.

A profile's key is sent to the profile's address only. `tollmesh profiles show` says what holds here, and why.

## Exit codes

| code | means |
| --- | --- |
"""

_HOLDS = {
    Kind.TEXT: ("text", "string", "string"),
    Kind.INTEGER: ("integer", "string of digits", "int64"),
    Kind.DECIMAL: ("decimal", "string", "decimal128(38, 18)"),
    Kind.TIME: ("`2026-01-15T12:00:00.000000Z`", "the same as a string", "timestamp(us, UTC)"),
    Kind.JSON: ("JSON as text", "the JSON itself", "string"),
}


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when something is stale"
    )
    check = parser.parse_args().check
    texts = {INDEX: index(), PAGE: page()}
    return pages.write_or_check(ROOT, texts, check=check, as_what="the commands give them")


def commands() -> dict[str, tuple[str, Any]]:
    """Return every command of the first level, with the module that holds it."""
    return {name: (noun, command) for noun in app.NOUNS for name, command in app.load(noun).items()}


def index() -> str:
    """Return the index, which lets the command line load only what is asked for."""
    found = {
        name: {
            "module": noun,
            "help": _help(command).partition("\n\n")[0].replace("\n", " "),
            **({"hidden": "true"} if command.hidden else {}),
        }
        for name, (noun, command) in commands().items()
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the page."""
    parts = [HEAD, *_exit_codes(), "\n## Commands\n"]
    for name, (_, command) in commands().items():
        parts += _section(f"tollmesh {name}", command)
    parts.append("\n## Columns of `tollmesh export`\n\n")
    parts += _kinds()
    for table in tables.TABLES:
        parts += _columns(table)
    return "".join(parts)


def _exit_codes() -> Iterator[str]:
    codes, _, rest = (
        EXIT_CODES.removeprefix("Exit codes: ").replace("\n", " ").partition(". Errors ")
    )
    for item in codes.split(" · "):
        code, _, meaning = item.strip().partition(" ")
        yield f"| {code} | {cell(meaning)} |\n"
    yield f"\nErrors {rest}\n"


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _section(path: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", None)
    text = _help(command).replace("<", "&lt;")
    yield f"\n### `{path}`\n\n{text}\n"
    if below is not None:
        for name, each in below.items():
            yield from _section(f"{path} {name}", each)
        return
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n`{path} {usage}`\n"
    rows = [
        record
        for parameter in command.params
        if (record := parameter.get_help_record(context)) is not None
    ]
    if rows:
        yield "\n| | |\n| --- | --- |\n"
    for name, text in rows:
        yield f"| `{name.replace('|', chr(92) + '|')}` | {cell(text)} |\n"


def _kinds() -> Iterator[str]:
    yield "What is absent is an empty cell in CSV, and null elsewhere. New columns are added at the end.\n\n"
    yield "| kind | CSV | JSON Lines | Parquet |\n| --- | --- | --- | --- |\n"
    for kind, held in _HOLDS.items():
        yield f"| {kind.value} | {' | '.join(held)} |\n"


def _columns(table: Table) -> Iterator[str]:
    yield f"\n### `{table.name}`\n\nA row is {table.about}.\n\n| column | kind | |\n| --- | --- | --- |\n"
    for column in table.columns:
        yield f"| `{column.name}` | {column.kind.value} | {cell(column.about)} |\n"


if __name__ == "__main__":
    sys.exit(main())
