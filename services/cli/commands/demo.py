"""`tollmesh demo`."""

from __future__ import annotations

import contextlib
import signal
from typing import Annotated

import typer

from services.cli.client import Client
from services.cli.commands.up import DEFAULT_DATA_DIR, DataDirOption
from services.cli.output import Format, OutputOption, print_json, say


def demo(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the mesh running until Ctrl-C")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Bill two real traces, end to end: metered, rated, posted, paid, watched."""
    # Imported here: the other commands should not pay for loading it.
    from services.cli import demo as story_of  # noqa: PLC0415

    with story_of.mesh(data_dir) as session:
        with Client(session) as client:
            story = story_of.Demo(client, tell=output is Format.TABLE).run()
        if output is Format.JSON:
            print_json(story.as_json())
        else:
            story_of.show_next_steps(session, data_dir, story, keeps=keep)
        if keep:
            _serve_until_interrupted()


def _serve_until_interrupted() -> None:
    say()
    say("serving; press Ctrl-C to stop")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
