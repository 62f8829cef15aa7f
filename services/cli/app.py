"""The commands of `tollmesh`, put together. A command loads the module that holds it, and no other."""

from __future__ import annotations

import functools
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from services.cli import profiles
from services.cli.errors import EXIT_CODES
from services.runtime.process.heap import loading

# Modules of `services.cli.commands`, in the order of `--help`. `make generate` writes what each holds to INDEX.
NOUNS = (
    "up",
    "demo",
    "quickstart",
    "usage",
    "reconcile",
    "receipts",
    "budgets",
    "catalog",
    "taxes",
    "charges",
    "merchants",
    "processors",
    "payments",
    "orders",
    "credits",
    "agreements",
    "payouts",
    "ledger",
    "events",
    "timers",
    "journeys",
    "violations",
    "webhooks",
    "keys",
    "audit",
    "settings",
    "export",
    "api",
    "profiles",
    "completion",
)
INDEX = "commands.json"


@functools.cache
def load(noun: str) -> dict[str, Any]:
    """Load the commands of a module, by their names: once, however often a process runs them."""
    with loading():
        part = typer.Typer()
        import_module(f"services.cli.commands.{noun}").register(part)
        return dict(typer.main.get_group(part).commands)


class _Commands(TyperGroup):
    """Knows the names and the short help of all commands from the index, and loads the one that is run."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        text = (Path(__file__).parent / "data" / INDEX).read_text(encoding="utf-8")
        self._index: dict[str, dict[str, str]] = json.loads(text)
        self._only_names = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all."""
        return list(self._index)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, loaded unless only its name and its help are asked for."""
        known = self._index.get(cmd_name)
        if known is None:
            return None
        if self._only_names:
            return TyperCommand(cmd_name, help=known["help"], hidden="hidden" in known)
        if cmd_name not in self.commands:
            self.commands.update(load(known["module"]))
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the index."""
        self._only_names = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the first word from the index."""
        self._only_names = True
        return super().shell_complete(ctx, incomplete)


def _print_version(asked: bool) -> None:
    if asked:
        # Imported here: one command should not cost all others 20 ms.
        from importlib import metadata  # noqa: PLC0415

        sys.stdout.write(f"tollmesh {metadata.version('tollmesh')}\n")
        raise typer.Exit


app = typer.Typer(
    name="tollmesh",
    cls=_Commands,
    help="Turn metered usage into settled money, with proof of every step.",
    epilog=f"The commands talk to the mesh that TOLLMESH_ADDRESS and TOLLMESH_API_KEY name, else to that of --profile, "
    f"else to the one that `tollmesh up` started in this directory, else to the profile in use.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            envvar="TOLLMESH_PROFILE",
            autocompletion=profiles.complete,
            help="the mesh of this name, see `tollmesh profiles`; it stands before the command",
        ),
    ] = "",
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            help="print the version and exit; `tollmesh version` has those of its parts too",
        ),
    ] = False,
) -> None:
    """Hold what stands before the command."""
    profiles.choose(profile)
