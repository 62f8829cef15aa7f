"""`tollmesh merchants put|diff|simulate|get|list|versions|rollback`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb2
from payments.orchestration.v1 import orchestration_service_pb2_grpc
from payments.plan.v1 import plan_pb2

from services.cli import durations, items, lists
from services.cli.changes import field_changes
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_DIFFERENT, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    as_dict,
    bold,
    money,
    print_json,
    print_table,
    say,
    when,
)

merchants = typer.Typer(
    help="Merchants: through which processors each is paid.", no_args_is_help=True
)

_FileArgument = Annotated[
    str,
    typer.Argument(
        help="YAML or JSON, in the shape of payments.config.v1.MerchantConfig; - for standard input"
    ),
]
# What is only told, not set.
_OUTPUT_ONLY = frozenset({"version", "created_at", "created_by"})
# What the mesh takes for what a configuration leaves open, as config.proto says.
_ATTEMPTS_PER_PROCESSOR_MAX = 2
_CALL_TIMEOUT_MS = 5_000
_WINDOW_S = 900
_SAMPLES_MIN = 20
_OUTAGE_BELOW_PERCENT = 20
_COLUMNS = ("merchant", "version", "methods", "since, UTC", "by")


@merchants.command("put")
def put(file: _FileArgument, output: OutputOption = Format.TABLE) -> None:
    """Store a merchant's configuration as its new version. One that is already in force changes nothing.

    Payments keep the version that they were planned with.
    """
    config = read_config(file)
    with Client(Session.find()) as client:
        before = _current(client, config.merchant_id)
        request = service_pb2.PutMerchantConfigRequest(request_id=str(uuid4()), config=config)
        version = client.call(_stub(client).PutMerchantConfig, request).version
    changes = _changes(before, config)
    if output is Format.JSON:
        print_json({"merchant_id": config.merchant_id, "version": version, "changes": changes})
        return
    is_same = before is not None and before.version == version
    what = "is in force already" if is_same else "is in force from now on"
    say(bold(config.merchant_id), f": version {version} {what}")
    for line in changes:
        say(f"    {line}")


@merchants.command("diff")
def diff(
    file: _FileArgument,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help=f"end with {EXIT_DIFFERENT} if anything would change"),
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what `merchants put` of the file would change against the version in force, and change nothing."""
    config = read_config(file)
    merchant_id = config.merchant_id
    with Client(Session.find()) as client:
        try:
            before: config_pb2.MerchantConfig | None = _get(client, merchant_id)
        except CliError as error:
            if error.reason != "NOT_FOUND":
                raise
            before = None
    changes = _changes(before, config)
    version = 0 if before is None else before.version
    if output is Format.JSON:
        print_json({"merchant_id": merchant_id, "version": version, "changes": changes})
    elif not changes:
        say(f"{merchant_id}: version {version} is the same")
    else:
        against = f"against version {version}" if version else "a new merchant"
        say(bold(merchant_id), f": {against}")
        for line in changes:
            say(f"    {line}")
    if exit_code and changes:
        raise CliError(f"{file} differs from the configuration in force", exit_code=EXIT_DIFFERENT)


@merchants.command("simulate")
def simulate(
    file: _FileArgument,
    payments: Annotated[
        int, typer.Option("--payments", min=1, max=5000, help="how many of the latest")
    ] = 1000,
    output: OutputOption = Format.TABLE,
) -> None:
    """Plan the merchant's latest payments anew with the file, and tell what would be otherwise. Nothing is changed."""
    request = service_pb2.SimulateRoutingRequest(config=read_config(file), payments_max=payments)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).SimulateRouting, request)
    if output is Format.JSON:
        print_json(found)
        return
    counts = (
        ("payments looked at", found.looked_at),
        ("as they were", found.same),
        ("otherwise", found.rerouted),
        ("refused before, planned now", found.newly_covered),
        ("planned before, refused now", found.no_longer_covered),
        ("left out", found.left_out),
    )
    print_table("", ("", "payments"), [(name, f"{n:,}") for name, n in counts], right=("payments",))
    for fees in found.fees:
        note = f" ({fees.unknown:,} more without a known fee)" if fees.unknown else ""
        say(
            f"fees of {fees.payments:,} payments: {money(fees.before)} before,"
            f" {money(fees.after)} now{note}"
        )
    if found.differences:
        rows = [
            (
                each.payment_id,
                _route(each.before) if each.HasField("before") else "refused",
                _route(each.after) if each.HasField("after") else ", ".join(each.refused_codes),
            )
            for each in found.differences
        ]
        print_table("", ("payment", "before", "now"), rows)


def _route(plan: plan_pb2.PaymentPlan) -> str:
    return ", ".join(
        f"{step.method} {money(step.max_amount)} by {step.processor_id}" for step in plan.steps
    )


@merchants.command("get")
def get(
    merchant_id: Annotated[str, typer.Argument(help="id of the merchant")],
    version: Annotated[int, typer.Option(min=0, help="a version; that in force by default")] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a merchant's configuration. With --output json it is a file for `merchants put`."""
    with Client(Session.find()) as client:
        found = _get(client, merchant_id, version)
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _COLUMNS, [_row(found)], right=("version",))
    rows = [
        (
            str(number),
            rule.method,
            money(rule.max_amount) if rule.HasField("max_amount") else "no limit",
            rule.processor_id,
            ", ".join(rule.fallback_processor_ids) or "-",
        )
        for number, rule in enumerate(found.methods, start=1)
    ]
    columns = ("priority", "method", "at most", "processor", "then")
    print_table("", columns, rows, right=("priority", "at most"))
    attempts = found.retry_policy.attempts_per_processor_max
    timeout = durations.describe(found.timeouts.call_timeout)
    partly = "kept" if found.partial_allowed else "given back"
    say(f"a processor is asked up to {attempts} times, each time for up to {timeout};")
    say(f"what is charged when a later method fails is {partly}")
    if found.capture == config_pb2.CAPTURE_MANUAL:
        say("payments are authorised, and taken by `tollmesh payment capture`")


@merchants.command("list")
def list_(
    merchant_id: Annotated[
        str, typer.Argument(help="a merchant, whose versions are listed, newest first")
    ] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the merchants with the version in force, by id; or every version of one merchant."""
    with Client(Session.find()) as client:
        stub = _stub(client)
        if merchant_id:
            request = service_pb2.ListMerchantConfigVersionsRequest(merchant_id=merchant_id)
            found = lists.pages(client, stub.ListMerchantConfigVersions, request, "configs")
        else:
            every = service_pb2.ListMerchantConfigsRequest()
            found = lists.pages(client, stub.ListMerchantConfigs, every, "configs")
        lists.show(output, "configs", found, _COLUMNS, _row, right=("version",), limit=limit)


@merchants.command("versions")
def versions(
    merchant_id: Annotated[str, typer.Argument(help="id of the merchant")],
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List every version of a merchant's configuration, the newest first."""
    with Client(Session.find()) as client:
        request = service_pb2.ListMerchantConfigVersionsRequest(merchant_id=merchant_id)
        found = lists.pages(client, _stub(client).ListMerchantConfigVersions, request, "configs")
        lists.show(output, "configs", found, _COLUMNS, _row, right=("version",), limit=limit)


@merchants.command("rollback")
def rollback(
    merchant_id: Annotated[str, typer.Argument(help="id of the merchant")],
    version: Annotated[int, typer.Argument(min=1, help="the version to return to")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Put an older version of a merchant's configuration in force again, as a new version."""
    with Client(Session.find()) as client:
        before, wanted = _get(client, merchant_id), _get(client, merchant_id, version)
        request = service_pb2.PutMerchantConfigRequest(request_id=str(uuid4()), config=wanted)
        stored = client.call(_stub(client).PutMerchantConfig, request).version
    changes = _changes(before, wanted)
    if output is Format.JSON:
        print_json({"merchant_id": merchant_id, "version": stored, "changes": changes})
        return
    if stored == before.version:
        say(bold(merchant_id), f": version {stored} in force says the same as version {version}")
        return
    say(
        bold(merchant_id),
        f": version {stored} is in force from now on; it says what {version} said",
    )
    for line in changes:
        say(f"    {line}")


def read_config(file: str) -> config_pb2.MerchantConfig:
    """Read a merchant's configuration. Raises CliError."""
    name = "standard input" if file == "-" else file
    return items.message_of(read_document(file), name, config_pb2.MerchantConfig)


def _stub(client: Client) -> orchestration_service_pb2_grpc.MerchantConfigServiceStub:
    return client.stub(orchestration_service_pb2_grpc.MerchantConfigServiceStub)


def _get(client: Client, merchant_id: str, version: int = 0) -> config_pb2.MerchantConfig:
    request = service_pb2.GetMerchantConfigRequest(merchant_id=merchant_id, version=version)
    return client.call(_stub(client).GetMerchantConfig, request).config


def _current(client: Client, merchant_id: str) -> config_pb2.MerchantConfig | None:
    """Return the version in force; None where there is none, or it may not be seen."""
    try:
        return _get(client, merchant_id)
    except CliError as error:
        # An id that none can have is for the call itself to refuse.
        if error.reason in ("NOT_FOUND", "SCOPE_MISSING", "INVALID_FIELD"):
            return None
        raise


def _changes(
    before: config_pb2.MerchantConfig | None, wanted: config_pb2.MerchantConfig
) -> list[str]:
    return field_changes({} if before is None else _whole(before), _whole(wanted))


def _whole(config: config_pb2.MerchantConfig) -> dict[str, Any]:
    """Return what a configuration means, with the defaults for what it leaves open."""
    filled = config_pb2.MerchantConfig()
    filled.CopyFrom(config)
    retry = filled.retry_policy
    retry.attempts_per_processor_max = (
        retry.attempts_per_processor_max or _ATTEMPTS_PER_PROCESSOR_MAX
    )
    timeout = filled.timeouts.call_timeout
    is_set = config.timeouts.HasField("call_timeout")
    timeout.FromMilliseconds(timeout.ToMilliseconds() if is_set else _CALL_TIMEOUT_MS)
    strategies = [method.strategy for method in filled.methods]
    strategies += [rule.route.strategy for rule in filled.rules if rule.HasField("route")]
    for strategy in strategies:
        if strategy.HasField("success_rate"):
            _fill(strategy.success_rate)
    found = as_dict(filled, zeros=False) | {"partial_allowed": filled.partial_allowed}
    return {name: value for name, value in found.items() if name not in _OUTPUT_ONLY}


def _fill(rate: config_pb2.SuccessRate) -> None:
    if not rate.HasField("window"):
        rate.window.FromSeconds(_WINDOW_S)
    rate.samples_min = rate.samples_min or _SAMPLES_MIN
    rate.outage_below_percent = rate.outage_below_percent or _OUTAGE_BELOW_PERCENT


def _row(config: config_pb2.MerchantConfig) -> tuple[str, ...]:
    methods = ", ".join(rule.method for rule in config.methods)
    since = when(config.created_at)
    return config.merchant_id, str(config.version), methods, since, config.created_by


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(merchants, name="merchants")
