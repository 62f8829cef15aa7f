"""`tollmesh payouts …`, `tollmesh commissions …` and `tollmesh sweep`: what partners earn and how they are paid."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer
from payments.settlement.v1 import (
    payout_service_pb2,
    payout_service_pb2_grpc,
    settlement_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.cli import amounts, lists, periods
from services.cli.client import Client, Session
from services.cli.errors import EXIT_DIFFERENT, EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    YesOption,
    confirm,
    enum_name,
    money,
    note,
    print_json,
    print_table,
    say,
    when,
)
from services.runtime.ids import derived_uuid

payouts = typer.Typer(help="Payouts to partners, and the rules they go by.", no_args_is_help=True)
commissions = typer.Typer(
    help="What partners earn, how they stand, and whether the books hold it.", no_args_is_help=True
)

_PAYOUTS = ("payout", "party", "amount", "kind", "status", "made at, UTC", "for")
_COMMISSIONS = ("charge", "line", "organisation", "sku", "party", "amount", "dispute", "payout")
_BALANCES = ("party", "earned", "paid", "claimed", "held", "carried")
_SWEEPS = ("sweep", "status", "by", "due at, UTC", "paid through, UTC", "payouts", "totals")
_CHECKS = ("account", "expected", "booked", "finding")
_PayoutArgument = Annotated[
    str,
    typer.Argument(metavar="PAYOUT", help="id of the payout, as `tollmesh payouts list` prints"),
]
_PartyOption = Annotated[str, typer.Option(help="only of this party")]
_RequestIdOption = Annotated[
    str, typer.Option(help="UUID that makes a repeated call the same one; by default a new one")
]


class Status(StrEnum):
    """How far a payout has come."""

    PENDING = "pending"
    CLAIMED = "claimed"
    PAID = "paid"
    RETURNED = "returned"


@payouts.command("list")
def list_payouts(
    party: _PartyOption = "",
    status: Annotated[Status | None, typer.Option(help="only those that came so far")] = None,
    sweep: Annotated[str, typer.Option(help="only those of this sweep")] = "",
    charge: Annotated[str, typer.Option(help="only those of lines of this charge")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List payouts, the latest first."""
    request = payout_service_pb2.ListPayoutsRequest(party=party, sweep_id=sweep, charge_id=charge)
    if status is not None:
        request.status = settlement_pb2.PayoutStatus.Value(f"PAYOUT_STATUS_{status.upper()}")
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListPayouts, request, "payouts")
        lists.show(
            *(output, "payouts", found, _PAYOUTS, _payout_row), right=("amount",), limit=limit
        )


@payouts.command("get")
def get(payout_id: _PayoutArgument, output: OutputOption = Format.TABLE) -> None:
    """Show a payout, with what the ledger made of it."""
    request = payout_service_pb2.GetPayoutRequest(payout_id=payout_id)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetPayout, request).payout
    _show(found, output)


@payouts.command("create")
def create(
    party: Annotated[str, typer.Argument(help="who gets it")],
    amount: Annotated[str, typer.Option(help="how much, in major units, e.g. 250.00")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code of --amount")] = "AUD",
    destination: Annotated[str, typer.Option(help="where it goes, in your words")] = "",
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from what is asked for")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="pay out once more what the same command has paid out")
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Pay out part of what a party is owed, now.

    Repeating a command pays nothing out twice; --again does on purpose. A payout that came back is made anew.
    """
    if again and request_id:
        raise CliError(
            "--again makes its own request id: use it without --request-id", exit_code=EXIT_USAGE
        )
    wanted = amounts.parse("--amount", amount, currency)
    confirm(f"This pays {money(wanted)} to {party}", yes=yes)
    request = payout_service_pb2.CreatePayoutRequest(
        party=party, amount=wanted, destination=destination
    )
    own = request_id or (str(uuid4()) if again else "")
    with Client(Session.find()) as client, Resumable(f"--request-id {own}" if again else ""):
        found, repeated = _made(client, request, own)
    if repeated:
        note(
            f"this is the payout made at {when(found.created_at)} UTC: nothing more was paid;"
            " --again makes another one"
        )
    _show(found, output)


@payouts.command("paid")
def paid(
    payout_id: _PayoutArgument,
    reference: Annotated[str, typer.Option(help="how the payment is known to who made it")] = "",
    at: Annotated[str, typer.Option(help="when the party had it; now by default")] = "",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Say that a party has the money of a payout."""
    request = payout_service_pb2.RecordPayoutPaymentRequest(
        request_id=request_id or str(uuid4()), payout_id=payout_id, payment_reference=reference
    )
    if at:
        request.paid_at.FromDatetime(periods.first_instant("--at", at))
    with Client(Session.find()) as client:
        found = client.call(_stub(client).RecordPayoutPayment, request).payout
    _show(found, output)


@payouts.command("returned")
def returned(
    payout_id: _PayoutArgument,
    code: Annotated[str, typer.Option(help="why, as the bank says it, e.g. R03")],
    at: Annotated[str, typer.Option(help="when it came back; now by default")] = "",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Say that the money of a payout came back: it is owed again."""
    request = payout_service_pb2.RecordPayoutReturnRequest(
        request_id=request_id or str(uuid4()), payout_id=payout_id, return_code=code
    )
    if at:
        request.returned_at.FromDatetime(periods.first_instant("--at", at))
    with Client(Session.find()) as client:
        found = client.call(_stub(client).RecordPayoutReturn, request).payout
    _show(found, output)


@payouts.command("policy")
def policy(
    seller: Annotated[str, typer.Argument(help="whose; without it, of all without their own")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show by which rules a party is paid, with all that its policy leaves out."""
    request = settlement_service_pb2.GetSettlementPolicyRequest(seller=seller)
    with Client(Session.find()) as client:
        found = client.call(_policies(client).GetSettlementPolicy, request).policy
    _show_policy(found, output)


@payouts.command("put-policy")
def put_policy(
    seller: Annotated[str, typer.Argument(help="whose; without it, of all without their own")] = "",
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="a line above it is paid at once, e.g. 50.00:AUD; one for each currency"),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(help="less is not paid, e.g. 10.00:AUD; one for each currency"),
    ] = None,
    sweep: Annotated[
        str, typer.Option(help="when to sweep, as cron does, e.g. '0 6 * * FRI'")
    ] = "",
    zone: Annotated[str, typer.Option(help="time zone of --sweep, e.g. Australia/Sydney")] = "",
    paused: Annotated[bool, typer.Option("--paused", help="sweep only when asked to")] = False,
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a policy, or replace the whole of it."""
    thresholds = [_amount("--threshold", each) for each in threshold or []]
    wanted = settlement_pb2.SettlementPolicy(
        seller=seller,
        payout_threshold=thresholds[0] if thresholds else None,
        further_payout_thresholds=thresholds[1:],
        payout_minimums=[_amount("--minimum", each) for each in minimum or []],
        sweep=sweep,
        time_zone=zone,
        sweep_paused=paused,
    )
    request = settlement_service_pb2.PutSettlementPolicyRequest(
        request_id=request_id or str(uuid4()), policy=wanted
    )
    with Client(Session.find()) as client:
        found = client.call(_policies(client).PutSettlementPolicy, request).policy
    _show_policy(found, output)


@commissions.command("list")
def list_commissions(
    party: _PartyOption = "",
    charge: Annotated[str, typer.Option(help="only on this charge")] = "",
    dispute: Annotated[str, typer.Option(help="only what is held under this dispute")] = "",
    period: Annotated[str, typer.Option(help="only what was earned in it, e.g. 2026-03")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List what partners earn, line by line, the latest first."""
    request = payout_service_pb2.ListCommissionsRequest(
        party=party,
        charge_id=charge,
        dispute_id=dispute,
        period=periods.parse(period) if period else None,
    )
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListCommissions, request, "commissions")
        lists.show(
            *(output, "commissions", found, _COMMISSIONS, _commission_row),
            right=("amount",),
            optional=("dispute", "payout"),
            limit=limit,
        )


@commissions.command("balances")
def balances(
    party: _PartyOption = "", limit: LimitOption = 0, output: OutputOption = Format.TABLE
) -> None:
    """List how partners stand: earned = paid + claimed + held + carried."""
    request = payout_service_pb2.ListCommissionBalancesRequest(party=party)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListCommissionBalances, request, "balances")
        right = _BALANCES[1:]
        lists.show(*(output, "balances", found, _BALANCES, _balance_row), right=right, limit=limit)


@commissions.command("sweeps")
def sweeps(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List sweeps, the latest made first; the next one by schedule is among them."""
    request = payout_service_pb2.ListCommissionSweepsRequest()
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListCommissionSweeps, request, "sweeps")
        lists.show(*(output, "sweeps", found, _SWEEPS, _sweep_row), right=("payouts",), limit=limit)


@commissions.command("verify")
def verify(output: OutputOption = Format.TABLE) -> None:
    """Compare how partners stand with the books; exit code 7 when the two differ for good."""
    request = payout_service_pb2.VerifyCommissionsRequest()
    with Client(Session.find()) as client:
        pages = lists.pages(client, _stub(client).VerifyCommissions, request, "comparisons", 100)
        found = list(pages)
    wrong = [each for each in found if each.differs and not each.settling]
    if output is Format.JSON:
        print_json(payout_service_pb2.VerifyCommissionsResponse(comparisons=found))
    else:
        shown = [each for each in found if each.differs]
        if shown:
            rows = [_check_row(each) for each in shown]
            print_table("", _CHECKS, rows, right=("expected", "booked"))
        say(f"{len(found)} accounts compared, {len(wrong)} differ")
    if wrong:
        raise typer.Exit(EXIT_DIFFERENT)


def sweep(
    through: Annotated[
        str, typer.Option(help="pay only what was earned up to this instant; now by default")
    ] = "",
    request_id: _RequestIdOption = "",
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Pay out what partners are owed, one payout a partner and currency."""
    confirm("This pays all partners what they are owed", yes=yes)
    request = payout_service_pb2.SweepCommissionsRequest(request_id=request_id or str(uuid4()))
    if through:
        request.through.FromDatetime(periods.last_instant("--through", through))
    with Client(Session.find()) as client:
        found = client.call(_stub(client).SweepCommissions, request).sweep
    if output is Format.JSON:
        print_json(found)
    else:
        print_table("", _SWEEPS, [_sweep_row(found)], right=("payouts",))


def _made(
    client: Client, request: payout_service_pb2.CreatePayoutRequest, own: str
) -> tuple[settlement_pb2.Payout, bool]:
    """Make the payout, or find it: under the caller's own id, or under one derived from what is asked for.

    Returns:
        The payout as it stands, and whether it was there before.
    """
    stub = _stub(client)
    listed = payout_service_pb2.ListPayoutsRequest(party=request.party)
    before = {
        each.payout_id: each for each in lists.pages(client, stub.ListPayouts, listed, "payouts")
    }
    content = request.SerializeToString(deterministic=True).hex()
    for returned in range(len(before) + 1):
        request.request_id = own or str(derived_uuid("payout", content, str(returned)))
        made = client.call(stub.CreatePayout, request).payout
        known = before.get(made.payout_id)
        if own or known is None or known.status != settlement_pb2.PAYOUT_STATUS_RETURNED:
            break
    return known or made, known is not None


def _stub(client: Client) -> payout_service_pb2_grpc.PayoutServiceStub:
    return client.stub(payout_service_pb2_grpc.PayoutServiceStub)


def _policies(client: Client) -> settlement_service_pb2_grpc.SettlementServiceStub:
    return client.stub(settlement_service_pb2_grpc.SettlementServiceStub)


def _amount(option: str, text: str) -> type_pb2.Money:
    """Read `50.00:AUD`. Raises CliError."""
    amount, colon, currency = text.partition(":")
    if not colon:
        raise CliError(
            f"{option} {text}: write the amount, a colon and its currency, e.g. 50.00:AUD",
            exit_code=EXIT_USAGE,
        )
    return amounts.parse(option, amount, currency, amounts.Range.NOT_NEGATIVE)


def _show(found: settlement_pb2.Payout, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _PAYOUTS, [_payout_row(found)], right=("amount",))
    for posting in found.postings:
        known = (
            f"posting {posting.posting_id}" if posting.posting_id else "on its way to the ledger"
        )
        say(f"  {posting.recipe}: {known}")
    if found.HasField("paid_at"):
        reference = f", {found.payment_reference}" if found.payment_reference else ""
        say(f"  paid at {when(found.paid_at)}{reference}")
    if found.HasField("returned_at"):
        say(f"  returned at {when(found.returned_at)}, {found.return_code}")


def _show_policy(found: settlement_pb2.SettlementPolicy, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    has_first = found.HasField("payout_threshold")
    thresholds = [found.payout_threshold] if has_first else []
    thresholds += found.further_payout_thresholds
    rows = [
        ("paid at once above", ", ".join(map(money, thresholds)) or "-"),
        ("not paid below", ", ".join(map(money, found.payout_minimums)) or "-"),
    ]
    if found.sweep_paused:
        rows.append(("swept", "only when asked to"))
    elif found.sweep:
        rows.append(("swept", f"{found.sweep} in {found.time_zone or 'UTC'}"))
    print_table("", ("rule", found.seller or "all parties"), rows)


def _payout_row(item: settlement_pb2.Payout) -> tuple[str, ...]:
    what = item.sweep_id or item.destination
    if item.charge_id:
        what = f"{item.charge_id}, line {item.line_id}"
    return (
        item.payout_id,
        item.party,
        money(item.amount),
        enum_name(item, "kind"),
        enum_name(item, "status"),
        when(item.created_at),
        what,
    )


def _commission_row(item: settlement_pb2.Commission) -> tuple[str, ...]:
    return (
        item.charge_id,
        item.line_id,
        item.org_id,
        item.sku,
        item.party,
        money(item.amount),
        item.dispute_id,
        item.payout_id,
    )


def _balance_row(item: settlement_pb2.CommissionBalance) -> tuple[str, ...]:
    parts = (item.earned, item.paid, item.claimed, item.held, item.carried)
    return (item.party, *map(money, parts))


def _sweep_row(item: settlement_pb2.CommissionSweep) -> tuple[str, ...]:
    def moment(field: str) -> str:
        return when(getattr(item, field)) if item.HasField(field) else "-"  # type: ignore[arg-type] # named by its caller

    return (
        item.sweep_id,
        enum_name(item, "status"),
        "schedule" if item.scheduled else "request",
        moment("due_at"),
        moment("through_at"),
        str(item.payout_count),
        ", ".join(map(money, item.totals)) or "-",
    )


def _check_row(item: settlement_pb2.CommissionCheck) -> tuple[str, ...]:
    finding = "on its way" if item.settling else "differs"
    return (item.account_id, money(item.expected), money(item.booked), finding)


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(payouts, name="payouts")
    app.add_typer(commissions, name="commissions")
    app.command("sweep")(sweep)
