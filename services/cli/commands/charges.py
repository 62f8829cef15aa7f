"""`tollmesh charge`, `tollmesh charges` and `tollmesh explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer
from payments.billing.v1 import billing_pb2, charge_service_pb2, charge_service_pb2_grpc
from payments.type.v1 import type_pb2
from rich.progress import Progress, TextColumn, TimeElapsedColumn

import tollmesh_verify
from services.cli import charge_run, export_files, lists, periods, proofs, tax_rows
from services.cli.client import Client, Session
from services.cli.documents import read_bytes
from services.cli.errors import (
    EXIT_DIFFERENT,
    EXIT_INCOMPLETE,
    EXIT_USAGE,
    CliError,
    Resumable,
)
from services.cli.output import (
    Format,
    JsonWriter,
    OutputOption,
    bold,
    enum_name,
    money,
    note,
    plain_money,
    print_json,
    print_table,
    print_tables,
    progress_console,
    say,
)
from services.runtime.ids import derived_uuid
from tollmesh_verify.reading import BYTES_MAX

_EXIT_CODES = {
    tollmesh_verify.Verdict.VERIFIED: 0,
    tollmesh_verify.Verdict.INCOMPLETE: EXIT_INCOMPLETE,
    tollmesh_verify.Verdict.DIFFERENT: EXIT_DIFFERENT,
}

_LISTED = ("charge", "organisation", "period", "total", "status")
_REFUSALS_SHOWN = 20
_CORRECTIONS_PAGE = 100


def charge(
    period: Annotated[str, typer.Option(help=periods.HELP)],
    org_id: Annotated[str, typer.Argument(help="organisation; none with --all")] = "",
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from the organisation and the period")
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="charge every organisation that is on a plan")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, max=32, help="with --all, organisations charged at once")
    ] = 8,
    allow_open: Annotated[
        bool, typer.Option(help="charge a period that hasn't ended yet, up to now")
    ] = False,
    preview: Annotated[
        bool, typer.Option(help="only show what would be charged; nothing is stored")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print only the id of the charge")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Rate an organisation's usage of a period, charge it and post it. A repeated command returns the same charge.

    One that was reversed meanwhile is made anew. With --all an organisation that cannot be charged is told and keeps no
    other from being charged; a run that was interrupted is repeated, and goes on.
    """
    wanted = periods.parse(period)
    if every == bool(org_id):
        raise CliError("name an organisation, or all of them with --all", exit_code=EXIT_USAGE)
    if every:
        _check_without(("--request-id", request_id), ("--preview", preview))
        _charge_all(wanted, output, jobs=jobs, allow_open=allow_open, quiet=quiet)
        return
    with Client(Session.find()) as client:
        if preview:
            _show_preview(_previewed(client, org_id, wanted, allow_open=allow_open), output)
            return
        made = create_charge(client, org_id, wanted, request_id, allow_open=allow_open)
    if quiet:
        say(made.charge_id)
        return
    if output is Format.JSON:
        print_json(made)
        return
    show_charge(made)
    if made.period.end_at.ToNanoseconds() < wanted.end_at.ToNanoseconds():
        closed_at = made.period.end_at.ToJsonString()
        say(f"the charge ends at {closed_at}; the next one starts there")


def _check_without(*options: tuple[str, object]) -> None:
    given = [name for name, value in options if value]
    if given:
        raise CliError(f"{' and '.join(given)} cannot be combined with --all", exit_code=EXIT_USAGE)


def _charge_all(
    period: type_pb2.Period, output: Format, *, jobs: int, allow_open: bool, quiet: bool
) -> None:
    run = charge_run.Run()
    with Client(Session.find()) as client, Resumable(""), _progress() as progress:
        task = progress.add_task("", total=None, organisations=0)

        def one(org_id: str) -> billing_pb2.Charge:
            return create_charge(client, org_id, period, allow_open=allow_open)

        def told() -> Iterator[billing_pb2.Charge]:
            found = charge_run.organisations(client, period, run)
            for made in charge_run.charged(found, one, run, jobs):
                progress.update(task, organisations=run.done)
                yield made
            charge_run.look_for_unplanned(client, period, run)

        if quiet:
            for made in told():
                say(made.charge_id)
        elif output is Format.JSON:
            with JsonWriter() as document:
                document.add_list("charges", told())
                document.add("refusals", list(map(charge_run.as_json, run.refusals)))
                document.add("refused", dict(run.refused))
                document.add("assigned_later", run.later_ids)
                document.add("without_plan", run.unplanned_ids)
                document.add("totals", _as_texts(run.totals))
                document.add("totals_with_tax", _as_texts(run.totals_with_tax))
        else:
            print_tables(_LISTED, map(_row, told()), right=("total",))
    if not quiet and output is Format.TABLE:
        with_tax = f"; with tax {_sums(run.totals_with_tax)}"
        taxed = with_tax if run.totals_with_tax != run.totals else ""
        say(f"{run.charged:,} charged: {_sums(run.totals) or 'nothing'}{taxed}")
    if run.later:
        _tell_later(run)
    if run.unplanned:
        _tell_unplanned(run)
    if run.refused:
        _tell_refused(run)
        raise typer.Exit(EXIT_INCOMPLETE)


def _sums(totals: Mapping[str, int]) -> str:
    return ", ".join(
        money(type_pb2.Money(currency_code=code, minor_units=total))
        for code, total in sorted(totals.items())
    )


def _as_texts(totals: Mapping[str, int]) -> dict[str, str]:
    return {code: str(total) for code, total in totals.items()}


def _tell_later(run: charge_run.Run) -> None:
    note(
        f"{run.later:,} not charged, put on a business model after the period; charge by name who is to pay for it:"
        f" {_first(run.later_ids, run.later)}"
    )


def _tell_unplanned(run: charge_run.Run) -> None:
    note(
        f"{run.unplanned:,} not charged, used something in the period and on no plan:"
        f" {_first(run.unplanned_ids, run.unplanned)}"
    )


def _first(org_ids: Sequence[str], count: int) -> str:
    more = f" and {count - _REFUSALS_SHOWN:,} more" if count > _REFUSALS_SHOWN else ""
    return ", ".join(org_ids[:_REFUSALS_SHOWN]) + more


def _tell_refused(run: charge_run.Run) -> None:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in run.refused.most_common())
    note(f"{run.refused.total():,} could not be charged: {reasons}")
    for org_id, error in run.refusals[:_REFUSALS_SHOWN]:
        note(f"  {org_id}: {error.message}")
    if (more := run.refused.total() - _REFUSALS_SHOWN) > 0:
        note(f"  … and {more:,} more; --output json lists the first {charge_run.REFUSALS_KEPT:,}")


def _progress() -> Progress:
    return Progress(
        TextColumn("charge"),
        TextColumn("{task.fields[organisations]:,} organisations"),
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
        transient=True,
    )


def create_charge(
    client: Client,
    org_id: str,
    period: type_pb2.Period,
    request_id: str = "",
    *,
    allow_open: bool = False,
) -> billing_pb2.Charge:
    """Create a charge, or return the one that the same request created before, unless that was reversed meanwhile."""
    bounds = [period.start_at.ToJsonString(), period.end_at.ToJsonString()]
    # Two requests: what was refused because the period is open may be asked for again with leave to charge it.
    name = "open-charge" if allow_open else "charge"
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    while True:
        request = charge_service_pb2.CreateChargeRequest(
            request_id=request_id or str(derived_uuid(name, org_id, *bounds)),
            org_id=org_id,
            period=period,
            allow_open=allow_open,
        )
        made = client.call(stub.CreateCharge, request).charge
        if request_id or not _was_reversed(client, made.charge_id):
            return made
        # Each charge of the period has a request of its own, which the one before it names.
        bounds.append(made.charge_id)


def _was_reversed(client: Client, charge_id: str) -> bool:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.GetChargeRequest(charge_id=charge_id)
    status = client.call(stub.GetCharge, request).charge.status
    return status == billing_pb2.CHARGE_STATUS_REVERSED


def _previewed(
    client: Client, org_id: str, period: type_pb2.Period, *, allow_open: bool
) -> billing_pb2.Charge:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.PreviewChargeRequest(
        org_id=org_id, period=period, allow_open=allow_open
    )
    return client.call(stub.PreviewCharge, request).charge


def _show_preview(shown: billing_pb2.Charge, output: Format) -> None:
    if output is Format.JSON:
        print_json(shown)
        return
    _show_lines(f"{shown.org_id}: {money(shown.total)}  (a preview: nothing was stored)", shown)


def adjust(
    charge_id: Annotated[str, typer.Argument(help="charge of the period, chg_…")],
    preview: Annotated[
        bool, typer.Option(help="only show the difference; nothing is stored")
    ] = False,
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from the charge and its corrections")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Charge the difference between what was billed for a period and what its usage comes to now.

    Late, amended and cancelled usage, and prices as they are now, end as one charge of the difference with postings of
    its own. Repeated, the command finds nothing to adjust.
    """
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.AdjustChargeRequest(
            request_id=request_id or _of_next_correction(client, "adjust", charge_id),
            charge_id=charge_id,
            validate_only=preview,
        )
        made = client.call(stub.AdjustCharge, request).charge
    if preview:
        _show_preview(made, output)
    else:
        _show_correction(made, output)


def reverse(
    charge_id: Annotated[str, typer.Argument(help="charge of the period, chg_…")],
    reason: Annotated[str, typer.Option(help="why, for those who read the books later")],
    request_id: Annotated[str, typer.Option(help="UUID; by default derived from the charge")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Take back what was billed for a period, corrections included, and free the period. It may be repeated."""
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ReverseChargeRequest(
            request_id=request_id or str(derived_uuid("reverse", charge_id, reason)),
            charge_id=charge_id,
            reason=reason,
        )
        made = client.call(stub.ReverseCharge, request).charge
    _show_correction(made, output)


def _of_next_correction(client: Client, name: str, charge_id: str) -> str:
    """Derive the id of a request that is the same until the next correction is there."""
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.ListChargesRequest(adjusts_charge_id=charge_id)
    found = lists.pages(client, stub.ListCharges, request, "charges", _CORRECTIONS_PAGE)
    settled = [each.charge_id for each in found if each.status != billing_pb2.CHARGE_STATUS_PENDING]
    return str(derived_uuid(name, charge_id, *sorted(settled)))


def _show_correction(made: billing_pb2.Charge, output: Format) -> None:
    if output is Format.JSON:
        print_json(made)
        return
    show_charge(made)
    kind = enum_name(made, "kind")
    say(f"{kind} of charge {made.adjusts_charge_id}")


def charges(
    org_id: Annotated[str, typer.Argument(help="organisation; all by default")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="maximum number, newest first")] = 100,
    output: OutputOption = Format.TABLE,
) -> None:
    """List charges."""
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ListChargesRequest(org_id=org_id)
        response = lists.up_to(client, stub.ListCharges, request, "charges", limit)
    if output is Format.JSON:
        print_json(response)
        return
    if org_id and not response.charges:
        say(f"{org_id} has no charges")
        return
    print_table("", _LISTED, map(_row, response.charges), right=["total"])


def _row(item: billing_pb2.Charge) -> tuple[str, ...]:
    return (
        item.charge_id,
        item.org_id,
        periods.describe(item.period),
        _total(item),
        enum_name(item, "status"),
    )


def _total(made: billing_pb2.Charge) -> str:
    owed = charge_run.owed_by(made)
    return (
        money(made.total) if owed == made.total else f"{money(made.total)}, with tax {money(owed)}"
    )


def explain(
    charge_id: Annotated[str, typer.Argument(help="id of the charge, chg_…")] = "",
    export: Annotated[
        str, typer.Option(help="write all that it is computed from to this file instead")
    ] = "",
    verify: Annotated[
        str,
        typer.Option(
            help="compute such a file again, - is standard input: offline, without a mesh or a key"
        ),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show every event range, price, tier, rounding and posting behind a charge.

    `--verify` ends with 0 when all of a file was computed again and is as it is written, 7 when something differs, 6
    when nothing does but not everything could be computed, and 2 when it is no export. `python -m tollmesh_verify FILE`
    does the same by itself.
    """
    if bool(charge_id) == bool(verify) or (verify and export):
        raise CliError("name a charge, or a file with --verify, and not both", exit_code=EXIT_USAGE)
    if verify:
        _verify(verify, output)
    elif export:
        _export(charge_id, export, output)
    else:
        _explain(charge_id, output)


def _export(charge_id: str, path: str, output: Format) -> None:
    with Client(Session.find()) as client:
        charges = proofs.collect(client, charge_id)
    text, sha256 = proofs.content(charges)
    export_files.write_whole(path, text)
    lines = sum(len(each.get("lines", ())) for each in charges)
    if output is Format.JSON:
        print_json({"file": path, "charges": len(charges), "lines": lines, "sha256": sha256})
        return
    counted = f"{len(charges)} charge{'' if len(charges) == 1 else 's'}"
    say(f"{counted} with {lines} line{'' if lines == 1 else 's'} written to {path}")
    say(f"sha256 of the content: {sha256}")


def _verify(path: str, output: Format) -> None:
    try:
        report = tollmesh_verify.verify(read_bytes(path, BYTES_MAX + 1))
    except tollmesh_verify.Refused as error:
        name = "standard input" if path == "-" else path
        raise CliError(f"{name} is no export: {error}", exit_code=EXIT_USAGE) from error
    if output is Format.JSON:
        print_json(report.document())
    else:
        for text in report.lines_of_text():
            say(text)
    if code := _EXIT_CODES[report.verdict]:
        raise typer.Exit(code)


def _explain(charge_id: str, output: Format) -> None:
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ExplainChargeRequest(charge_id=charge_id)
        explanation = client.call(stub.ExplainCharge, request).explanation
    if output is Format.JSON:
        print_json(explanation)
        return
    say(
        bold(explanation.charge_id),
        f"  {explanation.org_id}, {periods.describe(explanation.period)}: ",
        bold(money(explanation.total)),
    )
    if explanation.taxes:
        tax_rows.show_totals("taxes", explanation.taxes)
        say(f"total with tax: {money(explanation.total_with_tax)}")
    if explanation.recipe:
        recipe = f"{explanation.recipe}, version {explanation.recipe_version}"
        say(f"posted by recipe {recipe}: posting {explanation.posting_id}")
    for item in explanation.lines:
        _show_line(item)


def show_charge(made: billing_pb2.Charge) -> None:
    """Print a charge as a table of its lines."""
    status = enum_name(made, "status")
    _show_lines(f"{made.org_id}: {money(made.total)}  ({made.charge_id}, {status})", made)


def _show_lines(title: str, made: billing_pb2.Charge) -> None:
    rows = [
        (
            line.sku,
            f"{line.quantity}",
            line.exact_amount.rstrip("0").rstrip("."),
            plain_money(line.amount_gross),
            _partner(line),
            plain_money(line.partner_amount) if line.partner_id else "-",
        )
        for line in made.lines
    ]
    columns = ("sku", "quantity", "exact", "amount", "partner", "commission")
    print_table(title, columns, rows, right=("quantity", "exact", "amount", "commission"))
    if made.taxes:
        tax_rows.show_totals("taxes", made.taxes)
        say(f"total with tax: {money(made.total_with_tax)}")


def _partner(line: billing_pb2.ChargeLine) -> str:
    if not line.partner_id:
        return "-"
    held = f", held ({line.dispute_id})" if line.dispute_id else ""
    return f"{line.partner_id} {line.partner_pct} %{held}"


def _show_line(item: billing_pb2.LineExplanation) -> None:
    line = item.line
    project = f" of {line.project_id}" if line.project_id else ""
    say()
    say(bold(line.sku), f"{project}: {money(line.amount_gross)}")
    for step in item.steps:
        say(f"  {step}")
    for posting in item.postings:
        amount, debit, credit = posting.amount, posting.debit_account_id, posting.credit_account_id
        say(f"  posted {money(amount)}: {debit} → {credit}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(charge)
    app.command()(charges)
    app.command()(adjust)
    app.command()(reverse)
    app.command()(explain)
