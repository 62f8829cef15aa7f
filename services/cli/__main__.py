"""`tollmesh` and `python -m services.cli`."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from services.cli.commands import (
    catalog,
    charges,
    demo,
    events,
    ledger,
    payments,
    up,
    usage,
    violations,
)
from services.cli.errors import EXIT_CODES, CliError
from services.cli.output import progress_console

app = typer.Typer(
    name="tollmesh",
    help="Turns metered usage into settled money, and proves every step.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _noun in (up, demo, usage, catalog, charges, payments, ledger, events, violations):
    _noun.register(app)


def main() -> None:
    """Run the command line; ends the process with one of the documented exit codes."""
    try:
        app()
    except CliError as error:
        reason = f" [dim]({escape(error.reason)})[/dim]" if error.reason else ""
        progress_console.print(
            f"[bold red]error:[/bold red] {escape(error.message)}{reason}",
            highlight=False,
            soft_wrap=True,
        )
        for hint in error.hints:
            progress_console.print(f"  {escape(hint)}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
