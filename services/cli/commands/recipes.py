"""`tollmesh ledger recipes list|show|put|check` and `tollmesh ledger post-recipe`."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer
from payments.ledger.v1 import (
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    posting_pb2,
    recipe_pb2,
)

from services.cli import durations, lists, periods, references
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    enum_name,
    money,
    print_json,
    print_table,
    say,
    when,
)
from services.cli.recipe_parameters import Declared, parameters
from services.runtime.edge import json_messages

recipes = typer.Typer(help="Recipes: what facts mean in the books.", no_args_is_help=True)

_PAGE_SIZE = 200
_FileArgument = Annotated[
    str,
    typer.Argument(
        help="YAML or JSON, in the shape of payments.ledger.v1.Recipe; - for standard input"
    ),
]
_VersionOption = Annotated[
    int, typer.Option("--version", min=0, help="version of the recipe; the newest by default")
]


@recipes.command("list")
def list_recipes(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List the newest versions of all recipes, those of the product too."""
    with Client(Session.find()) as client:
        request = ledger_service_pb2.ListRecipesRequest()
        found = lists.pages(client, _stub(client).ListRecipes, request, "recipes", _PAGE_SIZE)
        columns = ("recipe", "version", "of", "posted for", "since, UTC", "description")
        lists.show(
            output,
            "recipes",
            found,
            columns,
            _row,
            right=("version",),
            optional=columns[3:],
            limit=limit,
        )


@recipes.command("show")
def show(
    name: Annotated[str, typer.Argument(help="name of the recipe")],
    version: _VersionOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a recipe: what it takes, the accounts that it uses, and its legs."""
    with Client(Session.find()) as client:
        found = _recipe(client, name, version)
    if output is Format.JSON:
        print_json(found)
    else:
        _show(found)


@recipes.command("put")
def put(file: _FileArgument, output: OutputOption = Format.TABLE) -> None:
    """Store a recipe as the next version of its name. The content of the newest one changes nothing."""
    stored = _put(file, validate_only=False)
    if output is Format.JSON:
        print_json(stored)
    else:
        say(f"{stored.name} version {stored.version}")


@recipes.command("check")
def check(file: _FileArgument, output: OutputOption = Format.TABLE) -> None:
    """Check a recipe as `put` does, and store nothing. Needs a key that may store it."""
    checked = _put(file, validate_only=True)
    if output is Format.JSON:
        print_json(checked)
    else:
        say(f"{checked.name} is sound: it would be version {checked.version}")


def post_recipe(
    name: Annotated[str, typer.Argument(help="name of the recipe")],
    reference: Annotated[
        str,
        typer.Option(metavar="KIND:ID[#PART]", help="what it is posted for, e.g. charge:chg_1"),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="a parameter; amounts as '12.50 USD', lists as YAML or JSON or as @ and a file; may be repeated",
        ),
    ] = None,
    version: _VersionOption = 0,
    effective_at: Annotated[
        str, typer.Option(help="when it takes effect in the books; now by default")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be posted, and post nothing")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Post what a recipe makes of a fact. A recipe is posted once for a reference, however often this is repeated."""
    request = ledger_service_pb2.PostRecipeRequest(
        request_id=str(uuid4()),
        recipe=name,
        version=version,
        reference=references.parse(reference),
        validate_only=dry_run,
    )
    if effective_at:
        try:
            request.effective_at.FromDatetime(periods.moment(effective_at))
        except (ValueError, OverflowError) as error:
            raise CliError(
                f"{effective_at!r} is not a time: {error}", exit_code=EXIT_USAGE
            ) from error
    with Client(Session.find()) as client:
        declared = _recipe(client, name, version)
        for parameter, value in parameters(declared, param or []).items():
            request.parameters[parameter].CopyFrom(value)
        posting = client.call(_stub(client).PostRecipe, request).posting
    if output is Format.JSON:
        print_json(posting)
    else:
        _show_posting(posting, dry_run=dry_run)


def _stub(client: Client) -> ledger_service_pb2_grpc.LedgerServiceStub:
    return client.stub(ledger_service_pb2_grpc.LedgerServiceStub)


def _recipe(client: Client, name: str, version: int) -> recipe_pb2.Recipe:
    request = ledger_service_pb2.GetRecipeRequest(name=name, version=version)
    return client.call(_stub(client).GetRecipe, request).recipe


def _put(file: str, *, validate_only: bool) -> recipe_pb2.Recipe:
    try:
        recipe = json_messages.parse(read_document(file), recipe_pb2.Recipe())
    except json_messages.NotThisMessage as error:
        raise CliError(f"{file} is not a recipe: {error}", exit_code=EXIT_USAGE) from error
    request = ledger_service_pb2.PutRecipeRequest(
        request_id=str(uuid4()), recipe=recipe, validate_only=validate_only
    )
    with Client(Session.find()) as client:
        return client.call(_stub(client).PutRecipe, request).recipe


# ---- Tables


def _row(recipe: recipe_pb2.Recipe) -> tuple[str, ...]:
    return (
        recipe.name,
        str(recipe.version),
        "product" if recipe.is_product else "tenant",
        recipe.reference_kind,
        when(recipe.created_at),
        recipe.description,
    )


def _show(recipe: recipe_pb2.Recipe) -> None:
    say(f"{recipe.name} version {recipe.version}", style="bold")
    if recipe.description:
        say(recipe.description)
    rows = []
    for parameter in recipe.parameters:
        rows.append(_parameter_row(parameter, ""))
        rows += [_parameter_row(item, f"{parameter.name}[].") for item in parameter.group]
    columns = ("parameter", "type", "", "description")
    print_table("", columns, rows, optional=columns[2:])
    accounts = [
        (item.name, item.account_id, enum_name(item, "type"), item.owner)
        for item in recipe.accounts
    ]
    print_table("", ("account", "id", "type", "owner"), accounts, optional=("owner",))
    for allocation in recipe.allocations:
        parts = [(part.name, _share(part)) for part in allocation.parts]
        title = f"{allocation.name} of {allocation.of}, ties to {allocation.residual_owner}"
        print_table(title, ("part", "share"), parts, right=("share",))
    of_legs = ("leg", "of each", "only", "kind", "debit", "credit", "amount", "code")
    legs = [_leg_row(leg) for leg in recipe.legs]
    print_table("", of_legs, legs, right=("code",), optional=("of each", "only"))
    say(f"when an account refuses: {enum_name(recipe, 'on_refusal')}")


def _parameter_row(parameter: Declared, path: str) -> tuple[str, ...]:
    kind = enum_name(parameter, "type").replace("_", " ")
    optional = "optional" if parameter.optional else ""
    return (f"{path}{parameter.name}", kind, optional, parameter.description)


def _share(part: recipe_pb2.RecipePart) -> str:
    kind = part.WhichOneof("share")
    if kind == "rest":
        return "the rest"
    value = str(getattr(part, kind or "percent"))
    return f"{value} %" if kind == "percent" else value


def _leg_row(leg: recipe_pb2.RecipeLeg) -> tuple[str, ...]:
    only = [f"when {leg.when}"] * bool(leg.when) + [f"unless {leg.unless}"] * bool(leg.unless)
    kind = enum_name(leg, "kind").replace("_", "-")
    if leg.HasField("timeout"):
        kind = f"{kind} for {durations.describe(leg.timeout)}"
    earlier = leg.hold if leg.HasField("hold") else leg.reverses
    of_earlier = f"as {earlier.recipe}.{earlier.leg}" if earlier.recipe else ""
    return (
        leg.name,
        leg.for_each,
        ", ".join(only),
        kind,
        leg.debit or _sources(leg.debit_from) or of_earlier,
        leg.credit or _sources(leg.credit_from) or of_earlier,
        leg.amount or "all",
        str(leg.code),
    )


def _sources(sources: object) -> str:
    return ", then ".join(
        source.account + (f" up to {source.up_to}" if source.up_to else "")
        for source in sources  # type: ignore[attr-defined] # a repeated field of either side
    )


def _show_posting(posting: posting_pb2.Posting, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    say(f"{posting.recipe} version {posting.version}: {would}posting {posting.posting_id}")
    if not posting.legs:
        say("nothing moves")
        return
    rows = [_posted_row(leg) for leg in posting.legs]
    columns = ("leg", "group", "kind", "debit account", "credit account", "amount", "transfer")
    print_table("", columns, rows, right=("group", "amount"))


def _posted_row(leg: posting_pb2.PostingLeg) -> tuple[str, ...]:
    transfer = leg.transfer.transfer
    return (
        leg.leg,
        str(leg.group),
        enum_name(transfer, "kind").replace("_", "-"),
        transfer.debit_account_id,
        transfer.credit_account_id,
        money(transfer.amount),
        transfer.transfer_id,
    )


def register(ledger: typer.Typer) -> None:
    """Add the commands."""
    ledger.add_typer(recipes, name="recipes")
    ledger.command("post-recipe")(post_recipe)
