"""`tollmesh webhooks create|list|update|delete|rotate|test|deliveries|attempts|redeliver`, and `listen`."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, webhooks_pb2

from services.cli import durations, lists, periods
from services.cli.client import Client, Session
from services.cli.commands import webhooks_listen
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    YesOption,
    confirm,
    enum_name,
    print_json,
    print_table,
    say,
    when,
)

webhooks = typer.Typer(
    help="Webhook endpoints and their deliveries.",
    no_args_is_help=True,
)

_Endpoint = Annotated[str, typer.Argument(help="id of the endpoint, whe_…")]
_SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="exact, a prefix such as payment.*, or *; may be repeated"),
]
_BodyOption = Annotated[
    str, typer.Option("--format", help="json (default), cloudevents or cloudevents-binary")
]
_ConcurrencyOption = Annotated[
    int, typer.Option(min=0, max=16, help="maximum concurrent requests; 0 keeps the current value")
]

_SUCCEEDED = webhooks_pb2.WEBHOOK_ATTEMPT_OUTCOME_SUCCEEDED


@webhooks.command("create")
def create(
    url: Annotated[str, typer.Argument(help="where events go, https://…")],
    subject: _SubjectOption = None,
    description: Annotated[str, typer.Option(help="what it is for")] = "",
    body: _BodyOption = "",
    ed25519: Annotated[
        bool, typer.Option("--ed25519", help="sign with a key pair instead of a shared secret")
    ] = False,
    concurrency: _ConcurrencyOption = 0,
    again: Annotated[
        bool,
        typer.Option("--again", help="create it even if another endpoint gets the same events"),
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Create an endpoint. Its signing secret is shown only once.

    If another endpoint already gets the same events at the same URL, this needs --again: every event would be sent to
    both.
    """
    request = service_pb2.CreateWebhookEndpointRequest(
        request_id=str(uuid4()),
        url=url,
        subjects=subject or ["*"],
        description=description,
        concurrency=concurrency,
        format=_format(body),
    )
    if ed25519:
        request.signing = webhooks_pb2.WEBHOOK_SIGNING_ED25519
    with Client(Session.find()) as client:
        if not again:
            _refuse_twin(client, request)
        response = client.call(_stub(client).CreateWebhookEndpoint, request)
    if output is Format.JSON:
        print_json(response)
        return
    _show_secret(response.endpoint.endpoint_id, response.secret)


def _refuse_twin(client: Client, request: service_pb2.CreateWebhookEndpointRequest) -> None:
    for endpoint in _endpoints(client).endpoints:
        if endpoint.url == request.url and set(endpoint.subjects) == set(request.subjects):
            raise CliError(
                f"{endpoint.endpoint_id} already gets these events at this URL",
                "to create a second endpoint anyway, use --again;"
                f" for a new secret: tollmesh webhooks rotate {endpoint.endpoint_id}",
            )


def _endpoints(client: Client) -> service_pb2.ListWebhookEndpointsResponse:
    request = service_pb2.ListWebhookEndpointsRequest()
    found: service_pb2.ListWebhookEndpointsResponse = lists.up_to(
        client, _stub(client).ListWebhookEndpoints, request, "endpoints", lists.PAGE_SIZE
    )
    return found


@webhooks.command("list")
def list_(output: OutputOption = Format.TABLE) -> None:
    """List the endpoints and their state."""
    with Client(Session.find()) as client:
        response = _endpoints(client)
    if output is Format.JSON:
        print_json(response)
        return
    _show_endpoints(*response.endpoints)


@webhooks.command("update")
def update(
    endpoint_id: _Endpoint,
    url: Annotated[str | None, typer.Option(help="where events go from now on")] = None,
    subject: _SubjectOption = None,
    description: Annotated[str | None, typer.Option(help="what it is for")] = None,
    body: _BodyOption = "",
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="stop or resume sending")
    ] = None,
    concurrency: _ConcurrencyOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Change the given settings and keep the others."""
    request = service_pb2.UpdateWebhookEndpointRequest(
        request_id=str(uuid4()),
        endpoint_id=endpoint_id,
        url=url,
        subjects=subject or [],
        description=description,
        concurrency=concurrency or None,
        disabled=disabled,
        format=_format(body),
    )
    with Client(Session.find()) as client:
        response = client.call(_stub(client).UpdateWebhookEndpoint, request)
    if output is Format.JSON:
        print_json(response)
        return
    _show_endpoints(response.endpoint)


@webhooks.command("delete")
def delete(
    endpoint_id: _Endpoint, yes: YesOption = False, output: OutputOption = Format.TABLE
) -> None:
    """Delete an endpoint. Undelivered events are dropped."""
    confirm(f"This deletes {endpoint_id} and drops what was not delivered to it", yes=yes)
    request = service_pb2.DeleteWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    with Client(Session.find()) as client:
        response = client.call(_stub(client).DeleteWebhookEndpoint, request)
    if output is Format.JSON:
        print_json(response)
    else:
        say(f"{endpoint_id} deleted")


@webhooks.command("rotate")
def rotate(
    endpoint_id: _Endpoint,
    overlap: Annotated[
        str,
        typer.Option(
            help="how long the old secret keeps signing too: 90s, 30m, 24h, 7d; use 0 after a leak"
        ),
    ] = "24h",
    ed25519: Annotated[
        bool | None,
        typer.Option(
            "--ed25519/--hmac", help="how the new secret signs; as the old one by default"
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Create a new signing secret. It is shown only once."""
    request = service_pb2.RotateWebhookSecretRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    request.overlap.FromTimedelta(durations.parse(overlap))
    if ed25519 is not None:
        request.signing = (
            webhooks_pb2.WEBHOOK_SIGNING_ED25519 if ed25519 else webhooks_pb2.WEBHOOK_SIGNING_HMAC
        )
    with Client(Session.find()) as client:
        response = client.call(_stub(client).RotateWebhookSecret, request)
    if output is Format.JSON:
        print_json(response)
        return
    _show_secret(endpoint_id, response.secret)
    for earlier in response.endpoint.secrets[1:]:
        say(f"{earlier.secret_id} keeps signing until {when(earlier.expires_at)} UTC")


@webhooks.command("test")
def test(endpoint_id: _Endpoint, output: OutputOption = Format.TABLE) -> None:
    """Send a test event and show the endpoint's response."""
    request = service_pb2.TestWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    with Client(Session.find()) as client:
        response = client.call(_stub(client).TestWebhookEndpoint, request)
    if output is Format.JSON:
        print_json(response)
    elif response.HasField("attempt"):
        _show_attempts(response.attempt)
    if not response.HasField("attempt"):
        raise CliError(
            f"{response.event_id} was not sent in time",
            f"check later: tollmesh webhooks attempts --event {response.event_id}",
            exit_code=EXIT_REFUSED,
        )
    if response.attempt.outcome != _SUCCEEDED:
        raise CliError(response.attempt.error or "the attempt failed", exit_code=EXIT_REFUSED)


@webhooks.command("deliveries")
def deliveries(
    endpoint_id: _Endpoint,
    status: Annotated[
        str, typer.Option(help="pending, delivered, failed or skipped; all by default")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """List deliveries and their status, newest first."""
    request = service_pb2.ListWebhookDeliveriesRequest(
        endpoint_id=endpoint_id,
        status=webhooks_pb2.WebhookDeliveryStatus.Value(
            _value(webhooks_pb2.WebhookDeliveryStatus.keys(), "WEBHOOK_DELIVERY_STATUS_", status)
        ),
    )
    with Client(Session.find()) as client:
        response = lists.up_to(
            client, _stub(client).ListWebhookDeliveries, request, "deliveries", limit
        )
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (
            when(each.created_at),
            each.subject,
            each.event_id,
            enum_name(each, "status"),
            str(each.tries),
            when(each.next_attempt_at),
        )
        for each in response.deliveries
    ]
    columns = ("created at, UTC", "subject", "event", "status", "tries", "next try, UTC")
    print_table("", columns, rows, right=["tries"])


@webhooks.command("attempts")
def attempts(
    endpoint: Annotated[str, typer.Option(help="only attempts to this endpoint")] = "",
    event: Annotated[str, typer.Option(help="only attempts for this event")] = "",
    outcome: Annotated[
        str,
        typer.Option(
            help="succeeded, refused, redirected, timed_out, unreachable, blocked, lost or not_sent"
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """List delivery attempts and their responses, newest first."""
    request = service_pb2.ListWebhookAttemptsRequest(
        endpoint_id=endpoint,
        event_id=event,
        outcome=webhooks_pb2.WebhookAttemptOutcome.Value(
            _value(webhooks_pb2.WebhookAttemptOutcome.keys(), "WEBHOOK_ATTEMPT_OUTCOME_", outcome)
        ),
    )
    with Client(Session.find()) as client:
        response = lists.up_to(
            client, _stub(client).ListWebhookAttempts, request, "attempts", limit
        )
    if output is Format.JSON:
        print_json(response)
        return
    _show_attempts(*response.attempts)


@webhooks.command("redeliver")
def redeliver(
    endpoint_id: _Endpoint,
    event: Annotated[str, typer.Option(help="one event, whatever its delivery status")] = "",
    period: Annotated[
        str, typer.Option(help=f"failed and skipped deliveries of a period: {periods.HELP}")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Redeliver one event, or the failed and skipped deliveries of a period."""
    if bool(event) == bool(period):
        raise CliError("give --event or --period", exit_code=EXIT_USAGE)
    request = service_pb2.RedeliverWebhookRequest(request_id=str(uuid4()), endpoint_id=endpoint_id)
    if event:
        request.event_id = event
    else:
        request.period.CopyFrom(periods.parse(period))
    done = service_pb2.RedeliverWebhookResponse(more=True)
    with Client(Session.find()) as client:
        while done.more:
            answer = client.call(_stub(client).RedeliverWebhook, request)
            done.redelivered += answer.redelivered
            done.more = answer.more
            request.request_id = str(uuid4())
    if output is Format.JSON:
        print_json(done)
    else:
        say(f"{done.redelivered} queued for redelivery")


def _stub(client: Client) -> events_service_pb2_grpc.EventServiceStub:
    return client.stub(events_service_pb2_grpc.EventServiceStub)


def _format(text: str) -> webhooks_pb2.WebhookFormat.ValueType:
    return webhooks_pb2.WebhookFormat.Value(
        _value(webhooks_pb2.WebhookFormat.keys(), "WEBHOOK_FORMAT_", text)
    )


def _value(names: list[str], prefix: str, text: str) -> str:
    """Return the name of an enum's value. Raises CliError: there is no such value."""
    wanted = prefix + (text.upper().replace("-", "_") or "UNSPECIFIED")
    if wanted in names:
        return wanted
    known = ", ".join(name.removeprefix(prefix).lower() for name in names[1:])
    raise CliError(f"{text!r} is not one of {known}", exit_code=EXIT_USAGE)


def _show_secret(endpoint_id: str, secret: str) -> None:
    say(secret)
    say(f"signing secret of {endpoint_id} (shown only once)", style="dim")


def _show_endpoints(*endpoints: webhooks_pb2.WebhookEndpoint) -> None:
    rows = [
        (
            each.endpoint_id,
            each.url,
            " ".join(each.subjects),
            _state(each),
            str(each.consecutive_failures),
            each.description,
        )
        for each in endpoints
    ]
    columns = ("endpoint", "url", "subjects", "state", "failures", "description")
    print_table("", columns, rows, right=["failures"])


def _state(endpoint: webhooks_pb2.WebhookEndpoint) -> str:
    if endpoint.disabled:
        return f"disabled: {enum_name(endpoint, 'disabled_reason')}"
    if endpoint.HasField("paused_until"):
        return f"paused until {when(endpoint.paused_until)} UTC"
    return "enabled"


def _show_attempts(*found: webhooks_pb2.WebhookAttempt) -> None:
    rows = [
        (
            when(each.started_at),
            each.subject,
            each.event_id,
            str(each.number),
            enum_name(each, "outcome"),
            str(each.status_code or ""),
            str(each.latency_ms),
            (each.error or each.response)[:80],
        )
        for each in found
    ]
    columns = ("at, UTC", "subject", "event", "no.", "outcome", "status", "ms", "answer")
    print_table("", columns, rows, right=["no.", "status", "ms"])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks_listen.register(webhooks)
    app.add_typer(webhooks, name="webhooks")
