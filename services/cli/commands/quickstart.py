"""`tollmesh quickstart`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.cli.output import Format, OutputOption, print_json, say


def quickstart(
    folder: Annotated[Path, typer.Argument(help="folder for the files")] = Path("quickstart"),
    output: OutputOption = Format.TABLE,
) -> None:
    """Write a catalogue, a merchant and this month's usage to bill for a start. Nothing is overwritten."""
    # Imported here: the other commands should not pay for loading it.
    from services.cli import quickstart as files  # noqa: PLC0415

    written = files.write(folder, datetime.now(UTC))
    if output is Format.JSON:
        print_json({"files": [str(file) for file in written]})
        return
    for file in written:
        say(str(file))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(quickstart)
