"""The commands of `tollmesh`, put together."""

from __future__ import annotations

import typer

from services.cli.commands import (
    catalog,
    charges,
    demo,
    events,
    journeys,
    keys,
    ledger,
    merchants,
    payments,
    quickstart,
    settings,
    timers,
    up,
    usage,
    violations,
    webhooks,
)
from services.cli.errors import EXIT_CODES

app = typer.Typer(
    name="tollmesh",
    help="Turn metered usage into settled money, with proof of every step.",
    epilog=f"The commands talk to the mesh that `tollmesh up` started in this directory, or to the one that "
    f"TOLLMESH_ADDRESS and TOLLMESH_API_KEY name.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(up.main)
for _noun in (
    up,
    demo,
    quickstart,
    usage,
    catalog,
    charges,
    merchants,
    payments,
    ledger,
    events,
    timers,
    journeys,
    violations,
    webhooks,
    keys,
    settings,
):
    _noun.register(app)
