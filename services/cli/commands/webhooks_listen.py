"""`tollmesh webhooks listen`."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc

from services.cli.client import Client, Session
from services.cli.errors import EXIT_UNAVAILABLE, CliError
from services.cli.forwarder import Delivered, Forwarder, new_secret
from services.cli.output import Format, OutputOption, bold, note, print_json, say, when
from services.runtime.outbox import registry


def listen(
    forward_to: Annotated[
        str, typer.Option("--forward-to", help="where events go: http://localhost:8000/hook")
    ],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="exact, or a prefix such as payment.*; may be repeated"),
    ] = None,
    after: Annotated[
        str, typer.Option(help="cursor to continue from; only events from now on by default")
    ] = "",
    secret: Annotated[
        str,
        typer.Option(
            # By the environment, because every user of the machine can read the arguments of a process.
            "--secret",
            envvar="TOLLMESH_LISTEN_SECRET",
            help="sign with this secret, whsec_…; a new one is made and shown if left out",
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, help="stop after this many events; 0 for no limit")
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Forward events to an address on this machine, as webhooks, until Ctrl-C.

    Body, headers and signature are those of a webhook in the format json, so a receiver can be tried before the mesh
    can reach it. Events are sent in order, each once: what fails is shown and not repeated. The signing secret is shown
    at the start; every start makes a new one, unless TOLLMESH_LISTEN_SECRET holds one. With --output json: a document
    per line.
    """
    made = secret or new_secret()
    forwarder = Forwarder(forward_to, made)
    registry.all_types()
    request = events_service_pb2.TailEventsRequest(
        subjects=subject or [], after=after, announce=True
    )
    with Client(Session.find()) as client, contextlib.suppress(KeyboardInterrupt):
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        number = 0
        try:
            for answer in client.stream(stub.TailEvents, request):
                after = answer.cursor
                if not answer.HasField("event"):
                    _ready(forward_to, "" if secret else made, output)
                    continue
                done = forwarder.send(answer.event, answer.position)
                _show(answer.event, done, answer.cursor, output)
                number += 1
                if number == limit:
                    return
        except CliError as error:
            if after and error.exit_code == EXIT_UNAVAILABLE:
                error.hints = [*error.hints, f"to continue where it stopped: --after {after}"]
            raise


def _ready(url: str, secret: str, output: Format) -> None:
    if output is Format.JSON:
        print_json({"forward_to": url, "secret": secret})
        return
    if secret:
        say(secret)
        note("signing secret of this run (shown only once)")
    note(f"forwarding to {url}; Ctrl-C ends it")


def _show(event: events_pb2.Event, done: Delivered, cursor: str, output: Format) -> None:
    if output is Format.JSON:
        print_json(
            {
                "event_id": event.id,
                "subject": event.subject,
                "status": done.status,
                "latency_ms": done.latency_ms,
                "error": done.error,
                "cursor": cursor,
            }
        )
        return
    status = bold(str(done.status or "failed"), "green" if done.succeeded else "bold red")
    told = f"  {done.error}" if done.error else ""
    say(
        f"{when(event.created_at)}  ",
        status,
        f"  {done.latency_ms:>5} ms  {event.subject}  {event.id}{told}",
    )


def register(webhooks: typer.Typer) -> None:
    """Add the command."""
    webhooks.command("listen")(listen)
