"""Recipes of tenants, and posting by recipes, on a real server with real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import recipe_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

from services.ledger import manifest as ledger
from services.ledger.domain.recipes.evaluation import posting_id
from services.ledger.domain.reversals import reversal_id
from services.ledger.domain.transfers import Reference
from services.runtime.ids import derived_uuid
from services.runtime.money import EXPONENTS
from tests.support.ledger.posting_recipes import account, moving, parameter
from tests.support.ledger.recipes import (
    RecipeBooks,
    error_info,
    parameters,
    rate,
    recipe,
    reference,
    usd,
)
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

ORDER = reference("order", "o-1")
AMOUNT = parameter("amount", "AMOUNT")
MOVE = recipe(**moving())
ONCE = {"amount": usd(7)}
ALL_TABLES = (
    "account",
    "balance",
    "entry",
    "hold",
    "posting",
    "recipe",
    "reversal",
    "transfer",
    "transfer_id",
)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def books(mesh: Mesh, tenant: str) -> RecipeBooks:
    return RecipeBooks(LedgerServiceStub(mesh.channel(tenant)))


def rows(database: DatabaseUrls, tenant: str) -> dict[str, int]:
    """Count what each table holds of a tenant, and its events and audit entries."""
    tables = [f"ledger.{name}" for name in ALL_TABLES] + ["mesh.event", "mesh.audit"]
    with psycopg.connect(database.owner_admin) as connection:
        return {
            table: connection.execute(
                f"SELECT count(*) FROM {table} WHERE tenant_id = %s",
                [tenant],
            ).fetchone()[0]  # type: ignore[index] # a count has a row
            for table in tables
        }


def fact(
    name: str = "o-1", values: dict[str, Any] | None = None, **more: Any
) -> service_pb.RecipePosting:
    return service_pb.RecipePosting(
        recipe=more.pop("recipe", "move"),
        parameters=parameters(ONCE if values is None else values),
        reference=more.pop("reference", None) or reference("order", name),
        **more,
    )


async def post_all(
    books: RecipeBooks, *facts: service_pb.RecipePosting
) -> list[service_pb.PostRecipeResult]:
    request = service_pb.PostRecipesRequest(postings=facts)
    return list((await books.stub.PostRecipes(request)).results)


def reasons(results: list[service_pb.PostRecipeResult]) -> list[str]:
    assert [result.index for result in results] == list(range(len(results)))
    return [result.refusal.reason or "POSTED" for result in results]


# ---- Recipes


async def test_versions_of_a_recipe_never_change(books: RecipeBooks) -> None:
    first = await books.put(MOVE)
    assert (first.version, first.is_product) == (1, False)
    assert (await books.put(MOVE)) == first, "the same content is the same version"
    changed = recipe(**moving(description="said better"))
    second = await books.put(changed)
    assert second.version == 2
    assert (await books.put(MOVE)).version == 3, "what was said before is said anew"
    get = books.stub.GetRecipe
    found = [
        (await get(service_pb.GetRecipeRequest(name="move", version=version))).recipe
        for version in (1, 2, 0)
    ]
    assert [(item.version, item.description) for item in found] == [
        (1, ""),
        (2, "said better"),
        (3, ""),
    ]
    assert found[0] == first


async def test_a_posting_names_the_version_that_made_it(books: RecipeBooks) -> None:
    await books.put(MOVE)
    leg = {"name": "moved", "debit": "to", "credit": "from", "amount": "amount", "code": 9}
    await books.put(recipe(**moving(legs=[leg])))
    newest = await books.post("move", ORDER, ONCE)
    assert (newest.version, newest.legs[0].transfer.transfer.code) == (2, 9)
    older = await books.post("move", reference("order", "o-2"), ONCE, version=1)
    assert (older.version, older.legs[0].transfer.transfer.code) == (1, 0)
    # A recipe that changes later changes nothing that was posted.
    await books.put(MOVE)
    assert await books.post("move", ORDER, ONCE) == newest


@pytest.mark.parametrize("change", ["parameter", "kind"])
async def test_what_an_older_version_posted_is_answered_when_it_is_sent_again(
    books: RecipeBooks, change: str
) -> None:
    await books.put(MOVE)
    first = await books.post("move", ORDER, ONCE)
    if change == "parameter":
        changed = moving(parameters=[AMOUNT, parameter("why", "NAME")])
        changed["legs"] = [{**leg, "metadata": {"why": "{why}"}} for leg in changed["legs"]]
    else:
        changed = moving(reference_kind="charge")
    second = await books.put(recipe(**changed))
    assert second.version == 2
    assert await books.post("move", ORDER, ONCE) == first
    batch = service_pb.PostRecipesRequest()
    batch.postings.add(recipe="move", parameters=parameters(ONCE), reference=ORDER)
    (answer,) = (await books.stub.PostRecipes(batch)).results
    assert answer.posting == first
    other = await books.refusal("move", ORDER, {"amount": usd(8)})
    assert other.reason == "POSTING_EXISTS"
    # What nobody has posted is judged by the newest version.
    unknown = await books.refusal("move", reference("order", "o-9"), ONCE)
    assert unknown.reason == "INVALID_FIELD"


@pytest.mark.parametrize(("seconds", "nanos"), [(0, -1), (2**62, 0), (-(2**63), 0), (7, 10**9)])
async def test_what_only_answers_say_is_not_read(
    books: RecipeBooks, seconds: int, nanos: int
) -> None:
    sent = recipe(**moving())
    sent.created_at.seconds, sent.created_at.nanos = seconds, nanos
    sent.version = 77
    stored = await books.put(sent)
    assert (stored.version, stored.created_at.seconds > 1_500_000_000) == (1, True)


async def test_a_fact_that_a_recipe_does_not_take_yet_is_judged_anew(books: RecipeBooks) -> None:
    noted = {**ONCE, "why": "gift"}
    await books.put(MOVE)
    request_id = str(uuid4())
    early = await books.refusal("move", ORDER, noted, request_id=request_id)
    assert early.reason == "INVALID_FIELD"
    changed = moving(parameters=[AMOUNT, parameter("why", "NAME")])
    changed["legs"] = [{**leg, "metadata": {"why": "{why}"}} for leg in changed["legs"]]
    await books.put(recipe(**changed))
    posting = await books.post("move", ORDER, noted, request_id=request_id)
    assert posting.version == 2
    assert await books.post("move", ORDER, noted, request_id=request_id) == posting


async def test_a_fact_that_could_not_be_read_is_refused_alone(books: RecipeBooks) -> None:
    await books.put(MOVE)
    batch = service_pb.PostRecipesRequest(unreadable={0: "version: is not a number"})
    batch.postings.add(recipe="move", reference=reference("order", "o-odd"))
    batch.postings.add(recipe="move", parameters=parameters(ONCE), reference=ORDER)
    odd, good = (await books.stub.PostRecipes(batch)).results
    assert odd.refusal.reason == "INVALID_FIELD"
    assert "cannot be read: version: is not a number" in odd.refusal.message
    assert good.posting.recipe == "move"


async def test_two_who_store_a_recipe_at_once_store_two_versions(books: RecipeBooks) -> None:
    many = [recipe(**moving(description=f"the {n}th")) for n in range(6)]
    stored = await asyncio.gather(*map(books.put, many))
    assert sorted(item.version for item in stored) == [1, 2, 3, 4, 5, 6]


async def test_a_recipe_that_is_not_sound_is_refused_with_every_place(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    odd = recipe(**moving(parameters=[AMOUNT, parameter("note", "TEXT")]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.put(odd)
    info = error_info(refused.value)
    assert (info.reason, info.metadata["place"]) == ("RECIPE_INVALID", "parameters[1]")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rows(database, tenant)["ledger.recipe"] == 0


async def test_a_recipe_of_the_product_keeps_its_name(books: RecipeBooks) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.put(recipe(**moving(name="charge")))
    assert error_info(refused.value).metadata["place"] == "name"
    request = service_pb.GetRecipeRequest(name="charge")
    assert (await books.stub.GetRecipe(request)).recipe.is_product


async def test_recipes_are_listed_by_name_with_those_of_the_product(books: RecipeBooks) -> None:
    await books.put(recipe(**moving(name="aaa")))
    await books.put(recipe(**moving(name="mine")))
    await books.put(recipe(**moving(name="mine", description="newer")))
    found: list[recipe_pb2.Recipe] = []
    token = ""
    while True:
        request = service_pb.ListRecipesRequest(page_size=5, page_token=token)
        page = await books.stub.ListRecipes(request)
        assert len(page.recipes) <= 5
        found += page.recipes
        token = page.next_page_token
        if not token:
            break
    names = [item.name for item in found]
    assert names == sorted(set(names))
    assert {"aaa", "mine", "charge", "fx"} <= set(names)
    mine = next(item for item in found if item.name == "mine")
    assert (mine.version, mine.description) == (2, "newer")


async def test_a_recipe_is_audited_as_other_configuration(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    await books.put(MOVE)
    await books.put(recipe(**moving(description="newer")))
    with psycopg.connect(database.owner_admin) as connection:
        entries = connection.execute(
            "SELECT entity, entity_id, before ->> 'description', after ->> 'description', actor FROM mesh.audit"
            " WHERE tenant_id = %s ORDER BY audit_id",
            [tenant],
        ).fetchall()
    assert entries == [
        ("recipe", "move/1", None, None, f"test:{tenant}"),
        ("recipe", "move/2", None, "newer", f"test:{tenant}"),
    ]


async def test_a_dry_run_stores_and_posts_nothing(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    before = rows(database, tenant)
    checked = await books.put(MOVE, validate_only=True)
    assert checked.version == 1
    payment = {"debtor": "acme", "amount": usd(5)}
    shown = await books.post("write-off", ORDER, payment, validate_only=True)
    assert [leg.leg for leg in shown.legs] == ["written_off"]
    assert rows(database, tenant) == before
    made = await books.post("write-off", ORDER, payment)
    assert made.posting_id == shown.posting_id
    assert made.legs[0].transfer.transfer == _but_time(
        shown.legs[0].transfer.transfer, made.legs[0].transfer.transfer
    )


def _but_time(shown: pb.Transfer, made: pb.Transfer) -> pb.Transfer:
    shown.effective_at.CopyFrom(made.effective_at)
    return shown


async def test_recipes_and_postings_are_each_tenants_own(books: RecipeBooks, mesh: Mesh) -> None:
    await books.put(MOVE)
    mine = await books.post("move", ORDER, ONCE)
    other = RecipeBooks(LedgerServiceStub(mesh.channel(f"t-{uuid4().hex[:12]}")))
    assert (await other.refusal("move", ORDER, ONCE)).reason == "RECIPE_NOT_FOUND"
    await other.put(MOVE)
    theirs = await other.post("move", ORDER, ONCE)
    assert theirs.posting_id != mine.posting_id
    ids = [each.legs[0].transfer.transfer.transfer_id for each in (mine, theirs)]
    assert ids[0] != ids[1]


async def test_posting_and_storing_need_the_scope_to_write(mesh: Mesh, tenant: str) -> None:
    reader = RecipeBooks(LedgerServiceStub(mesh.channel(tenant, ["ledger:read"])))
    assert (await reader.refusal("write-off", ORDER, {})).reason == "SCOPE_MISSING"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reader.put(MOVE)
    assert error_info(refused.value).reason == "SCOPE_MISSING"


# ---- Posting


async def test_a_posting_holds_the_values_of_every_type(books: RecipeBooks) -> None:
    kinds = {
        "who": "PARTY",
        "name": "NAME",
        "currency": "CURRENCY",
        "note": "TEXT",
        "signed": "SIGNED_AMOUNT",
        "rate": "RATE",
        "flag": "FLAG",
    }
    rows_ = parameter("rows", "LIST", group=[parameter("tag", "NAME")])
    metadata = {name: f"{{{name}}}" for name in kinds}
    moved = {"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}
    tagged = {**moved, "name": "tagged", "for_each": "rows", "metadata": {"tag": "{tag}"}}
    await books.put(
        recipe(
            **moving(
                parameters=[AMOUNT, rows_, *(parameter(n, k) for n, k in kinds.items())],
                legs=[{**moved, "metadata": metadata}, tagged],
            )
        )
    )
    values = {
        **ONCE,
        "who": "Ada Lovelace ✓",
        "name": "n",
        "currency": "JPY",
        "note": "",
        "signed": usd(-5),
        "rate": rate("0.025"),
        "flag": False,
        "rows": [{"tag": "a"}, {"tag": "b"}],
    }
    posting = await books.post("move", ORDER, values)
    assert dict(posting.parameters) == parameters(values)
    assert await books.post("move", ORDER, values) == posting, "read back as it was"
    assert [(leg.leg, leg.group) for leg in posting.legs] == [
        ("moved", 0),
        ("tagged", 0),
        ("tagged", 1),
    ]


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD"])
async def test_a_posting_is_in_the_currency_of_its_amount(
    books: RecipeBooks, currency: str
) -> None:
    assert currency in EXPONENTS
    amount = usd(3)
    amount.currency_code = currency
    await books.post("write-off", ORDER, {"debtor": "acme", "amount": amount})
    assert await books.balances() == {
        f"losses:bad-debt:{currency}": 3,
        f"receivable:acme:{currency}": -3,
    }


async def test_a_request_is_answered_once_and_a_reference_is_posted_once(
    books: RecipeBooks,
) -> None:
    await books.put(MOVE)
    request_id = str(uuid4())
    first = await books.post("move", ORDER, ONCE, request_id=request_id)
    assert await books.post("move", ORDER, ONCE, request_id=request_id) == first
    assert await books.post("move", ORDER, ONCE) == first
    other = await books.refusal("move", ORDER, {"amount": usd(8)})
    assert other.reason == "POSTING_EXISTS"
    assert dict(other.metadata) == {
        "recipe": "move",
        "reference": "order o-1",
        "posting_id": first.posting_id,
    }
    at = Timestamp(seconds=1_700_000_000)
    assert (await books.refusal("move", ORDER, ONCE, effective_at=at)).reason == "POSTING_EXISTS"
    reused = await books.refusal("move", ORDER, {"amount": usd(8)}, request_id=request_id)
    assert reused.reason == "REQUEST_ID_REUSED"
    assert await books.balances() == {"to:USD": 7, "from:USD": -7}


async def test_a_fact_that_moves_nothing_is_posted_all_the_same(books: RecipeBooks) -> None:
    await books.put(MOVE)
    posting = await books.post("move", ORDER, {"amount": usd(0)})
    assert list(posting.legs) == []
    assert (await books.refusal("move", ORDER, ONCE)).reason == "POSTING_EXISTS"
    assert await books.accounts() == set()


async def test_a_charge_of_thousands_of_lines_is_posted_as_one(books: RecipeBooks) -> None:
    lines = [
        {
            "line": f"l{n}",
            "sku": f"sku{n % 7}",
            "gross": usd(n + 1),
            "partner": "p1",
            "share": usd(1),
        }
        for n in range(2000)
    ]
    charge = reference("charge", "c")
    posting = await books.post("charge", charge, {"org": "acme", "lines": lines})
    assert len(posting.legs) == 4000
    assert await books.post("charge", charge, {"org": "acme", "lines": lines}) == posting
    found = await books.balances()
    assert found["receivable:acme:USD"] == 2000 * 2001 // 2
    assert found["payable:partner:p1:USD"] == -2000


async def test_what_the_recipe_does_not_take_is_refused(books: RecipeBooks) -> None:
    await books.put(recipe(**moving(reference_kind="charge")))
    assert (await books.refusal("move", ORDER, ONCE)).metadata["fields"] == "reference.kind"
    charge = reference("charge", "c")
    missing = await books.refusal("move", charge, {})
    assert (missing.reason, missing.metadata["fields"]) == ("INVALID_FIELD", "parameters.amount")
    unknown = await books.refusal("move", charge, {**ONCE, "colour": "red"})
    assert unknown.metadata["fields"] == "parameters.colour"
    euros = usd(1)
    euros.currency_code = "XXQ"
    assert (await books.refusal("move", charge, {"amount": euros})).reason == "UNKNOWN_CURRENCY"
    assert (await books.refusal("move", charge, ONCE, version=2)).reason == "RECIPE_NOT_FOUND"
    assert (await books.refusal("charge", charge, {}, version=9)).reason == "RECIPE_NOT_FOUND"


async def test_a_refusal_by_an_account_is_no_answer_for_ever(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    """An account with a ceiling refuses; once something was taken off, the same call is carried out."""
    await books.put(MOVE)
    ceiling = pb.AccountLimits(ceiling=usd(10))
    await books.open("to:USD", limits=ceiling)
    await books.post("move", reference("order", "o-0"), {"amount": usd(5)})
    before = rows(database, tenant)
    request_id = str(uuid4())
    refused = await books.refusal("move", ORDER, ONCE, request_id=request_id)
    assert refused.reason == "RECIPE_REFUSED"
    assert (refused.metadata["account_id"], refused.metadata["result"]) == (
        "to:USD",
        "DEBIT_ACCOUNT_ABOVE_CEILING",
    )
    assert rows(database, tenant) == before, "no id is burnt, no account is made"
    back = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id="from:USD",
        credit_account_id="to:USD",
        amount=usd(5),
    )
    await books.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[back]))
    posting = await books.post("move", ORDER, ONCE, request_id=request_id)
    assert len(posting.legs) == 1


async def test_ids_that_others_have_taken_are_passed_over(books: RecipeBooks, tenant: str) -> None:
    """Whoever knows how ids derive can post under one first; the fact is booked under the next one."""
    await books.put(MOVE)
    await books.open("a")
    await books.open("b")
    base = ("ledger.recipe", tenant, "order", "o-1", "", "move", "moved", "0", "0")
    taken = [str(derived_uuid(*base, str(round_no))) for round_no in range(2)]
    transfers = [
        pb.Transfer(
            transfer_id=transfer_id,
            debit_account_id="a",
            credit_account_id=credited,
            amount=usd(1),
        )
        for transfer_id, credited in zip(taken, ("b", "nowhere"), strict=True)
    ]
    answer = await books.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=transfers))
    assert [each.result for each in answer.results] == [
        service_pb.TRANSFER_RESULT_OK,
        service_pb.TRANSFER_RESULT_CREDIT_ACCOUNT_NOT_FOUND,
    ]
    posting = await books.post("move", ORDER, ONCE)
    assert posting.legs[0].transfer.transfer.transfer_id == str(derived_uuid(*base, "2"))
    assert await books.post("move", ORDER, ONCE) == posting


async def test_entries_show_what_a_posting_was_for(books: RecipeBooks) -> None:
    await books.put(MOVE)
    at = Timestamp(seconds=1_700_000_000)
    posting = await books.post("move", reference("order", "o-1", "p"), ONCE, effective_at=at)
    (entry,) = await books.entries("to:USD")
    assert (entry.reference, entry.effective_at) == (reference("order", "o-1", "p"), at)
    request = service_pb.GetTransferRequest(transfer_id=entry.transfer_id)
    found = (await books.stub.GetTransfer(request)).transfer
    assert found == posting.legs[0].transfer
    assert found.posting_id == posting.posting_id


async def test_a_hold_of_a_posting_is_ended_by_another(books: RecipeBooks) -> None:
    moved = {"name": "held", "debit": "to", "credit": "from", "amount": "amount"}
    hold = {**moved, "kind": "KIND_PENDING", "timeout": "3600s", "multi_capture": True}
    await books.put(recipe(**moving(name="hold", legs=[hold])))
    earlier = {"recipe": "hold", "leg": "held"}
    end = {"name": "end", "hold": earlier}
    capture = {**end, "kind": "KIND_POST_PENDING", "amount": "amount"}
    await books.put(recipe(name="capture", parameters=[AMOUNT], legs=[capture]))
    await books.put(recipe(name="release", legs=[{**end, "kind": "KIND_VOID_PENDING"}]))
    part = reference("order", "o-1", "1")
    early = await books.refusal("capture", part, {"amount": usd(3)})
    assert early.metadata["result"] == "EARLIER_LEG_NOT_FOUND"
    held = await books.post("hold", ORDER, {"amount": usd(10)})
    assert held.legs[0].transfer.hold.state == pb.HOLD_STATE_OPEN
    first = await books.post("capture", part, {"amount": usd(3)})
    assert first.legs[0].transfer.transfer.pending_id == (
        held.legs[0].transfer.transfer.transfer_id
    )
    too_much = await books.refusal("capture", reference("order", "o-1", "2"), {"amount": usd(8)})
    assert (too_much.metadata["leg"], too_much.metadata["result"]) == (
        "end",
        "EXCEEDS_PENDING_TRANSFER_AMOUNT",
    )
    await books.post("release", ORDER, {})
    assert await books.balances() == {"to:USD": 3, "from:USD": -3}
    again = await books.post("hold", ORDER, {"amount": usd(10)})
    assert again.legs[0].transfer.hold.state == pb.HOLD_STATE_VOIDED, "as it stands now"


# ---- Reversals

BACK = recipe(
    name="back",
    parameters=[AMOUNT],
    legs=[
        {
            "name": "back",
            "amount": "amount",
            "reverses": {"recipe": "move", "leg": "moved", "part": ""},
        }
    ],
)


EVEN = {"from:USD": 0, "to:USD": 0}


async def moved_once(books: RecipeBooks, amount: int) -> str:
    """Post what is to be reversed, and return its transfer's id."""
    await books.put(MOVE)
    await books.put(BACK)
    posting = await books.post("move", ORDER, {"amount": usd(amount)})
    return posting.legs[0].transfer.transfer.transfer_id


def back(part: str, amount: int) -> service_pb.RecipePosting:
    values = {"amount": usd(amount)}
    return fact(values=values, recipe="back", reference=reference("order", "o-1", part))


async def undone(books: RecipeBooks, transfer_id: str) -> str:
    """Reverse a transfer as a whole, and return why not."""
    request = service_pb.ReverseTransferRequest(
        request_id=str(uuid4()), transfer_id=transfer_id, reason="wrong"
    )
    try:
        await books.stub.ReverseTransfer(request)
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        return f"{info.reason} {info.metadata['result']}".strip()
    return ""


async def test_no_more_is_reversed_than_was_posted_over_calls_and_within_one(
    books: RecipeBooks,
) -> None:
    await moved_once(books, 100)
    posted = await post_all(books, back("1", 60), back("2", 60), back("3", 30), back("1", 60))
    assert reasons(posted) == ["POSTED", "RECIPE_REFUSED", "POSTED", "POSTED"]
    assert posted[1].refusal.metadata["result"] == "EXCEEDS_EARLIER_LEG"
    assert reasons(await post_all(books, back("4", 11))) == ["RECIPE_REFUSED"]
    assert reasons(await post_all(books, back("4", 10))) == ["POSTED"]
    assert reasons(await post_all(books, back("5", 1))) == ["RECIPE_REFUSED"]
    assert await books.balances() == EVEN


async def test_of_many_who_reverse_at_once_so_many_do_as_there_is_to_reverse(
    books: RecipeBooks,
) -> None:
    transfer_id = await moved_once(books, 100)
    calls = [post_all(books, back(str(part), 30)) for part in range(8)]
    results, whole = await asyncio.gather(asyncio.gather(*calls), undone(books, transfer_id))
    found = sorted(reasons(each)[0] for each in results)
    if whole:
        assert whole == "REVERSAL_REFUSED REVERSED_IN_PART"
        assert found == ["POSTED"] * 3 + ["RECIPE_REFUSED"] * 5
        assert (await books.balances())["to:USD"] == 10
    else:
        assert found == ["RECIPE_REFUSED"] * 8
        assert await books.balances() == EVEN


async def test_a_transfer_is_reversed_by_recipe_or_as_a_whole_and_not_by_both(
    books: RecipeBooks,
) -> None:
    transfer_id = await moved_once(books, 100)
    (part,) = await post_all(books, back("1", 40))
    assert await undone(books, transfer_id) == "REVERSAL_REFUSED REVERSED_IN_PART"
    # What was reversed by mistake can be reversed itself, and counts no more.
    assert await undone(books, part.posting.legs[0].transfer.transfer.transfer_id) == ""
    assert await undone(books, transfer_id) == ""
    assert await undone(books, transfer_id) == "TRANSFER_ALREADY_REVERSED"
    assert reasons(await post_all(books, back("2", 1))) == ["RECIPE_REFUSED"]
    assert await books.balances() == EVEN


async def test_a_reversal_is_not_undone_twice_over_by_undoing_what_undid_it(
    books: RecipeBooks,
) -> None:
    transfer_id = await moved_once(books, 100)
    (part,) = await post_all(books, back("1", 100))
    taken_id = part.posting.legs[0].transfer.transfer.transfer_id
    assert await undone(books, taken_id) == ""
    given_id = str(reversal_id(UUID(taken_id)))
    assert reasons(await post_all(books, back("2", 70))) == ["POSTED"]
    # It would take the 100 back once more, and 30 are left.
    assert await undone(books, given_id) == "REVERSAL_REFUSED REVERSED_IN_PART"
    assert (await books.balances())["to:USD"] == 30
    (again,) = await post_all(books, back("3", 30))
    assert await undone(books, again.posting.legs[0].transfer.transfer.transfer_id) == ""
    assert await undone(books, transfer_id) == "REVERSAL_REFUSED REVERSED_IN_PART"
    assert (await books.balances())["to:USD"] == 30


async def test_many_who_undo_what_undid_a_reversal_take_it_back_once(books: RecipeBooks) -> None:
    await moved_once(books, 100)
    (part,) = await post_all(books, back("1", 100))
    taken_id = part.posting.legs[0].transfer.transfer.transfer_id
    assert await undone(books, taken_id) == ""
    given_id = str(reversal_id(UUID(taken_id)))
    others = [post_all(books, back(str(n), 60)) for n in range(2, 6)]
    whole, results = await asyncio.gather(undone(books, given_id), asyncio.gather(*others))
    found = sorted(reasons(each)[0] for each in results)
    if whole:
        assert whole == "REVERSAL_REFUSED REVERSED_IN_PART"
        assert found == ["POSTED"] + ["RECIPE_REFUSED"] * 3
        assert (await books.balances())["to:USD"] == 40
    else:
        assert found == ["RECIPE_REFUSED"] * 4
        assert await books.balances() == EVEN


async def test_what_went_the_same_way_again_counts_no_more_once_it_is_reversed(
    books: RecipeBooks,
) -> None:
    await moved_once(books, 100)
    signed = recipe_pb2.Recipe(name="signed", parameters=BACK.parameters, legs=BACK.legs)
    signed.parameters[0].type = recipe_pb2.PARAMETER_TYPE_SIGNED_AMOUNT
    await books.put(signed)
    again = await books.post("signed", reference("order", "o-1", "s"), {"amount": usd(-50)})
    assert (await books.balances())["to:USD"] == 150
    assert await undone(books, again.legs[0].transfer.transfer.transfer_id) == ""
    assert reasons(await post_all(books, back("1", 101))) == ["RECIPE_REFUSED"]
    assert reasons(await post_all(books, back("1", 100))) == ["POSTED"]
    assert await books.balances() == EVEN


async def test_a_hold_that_reverses_counts_for_what_is_posted_of_it(books: RecipeBooks) -> None:
    await moved_once(books, 100)
    (leg,) = BACK.legs
    held = recipe_pb2.Recipe(name="held", parameters=BACK.parameters, legs=[leg])
    held.legs[0].kind = pb.KIND_PENDING
    held.legs[0].multi_capture = True
    await books.put(held)
    values = {"amount": usd(80)}
    posting = await books.post("held", reference("order", "o-1", "h"), values)
    hold_id = posting.legs[0].transfer.transfer.transfer_id
    assert reasons(await post_all(books, back("1", 21))) == ["RECIPE_REFUSED"]
    ends = [
        pb.Transfer(
            transfer_id=str(uuid4()),
            pending_id=hold_id,
            kind=kind,
            amount=usd(50) if kind == pb.KIND_POST_PENDING else None,
        )
        for kind in (pb.KIND_POST_PENDING, pb.KIND_VOID_PENDING)
    ]
    answer = await books.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=ends))
    assert [each.result for each in answer.results] == [service_pb.TRANSFER_RESULT_OK] * 2
    assert reasons(await post_all(books, back("1", 51))) == ["RECIPE_REFUSED"]
    assert reasons(await post_all(books, back("1", 50))) == ["POSTED"]
    assert await books.balances() == EVEN


async def test_what_a_processor_gave_back_beyond_the_charge_is_booked_in_suspense(
    books: RecipeBooks,
) -> None:
    charged = {"processor": "card", "debtor": "acme", "amount": usd(100), "payment": "p"}
    payment = {**charged, "attempt": "1", "order": "o", "person": "a"}
    await books.post("payment-received", reference("payment", "p", "1"), payment)
    for attempt in ("2", "3"):
        refund = {**payment, "attempt": attempt, "refund_of": "1", "amount": usd(60)}
        await books.post("payment-refunded", reference("payment", "p", attempt), refund)
    assert await books.balances() == {
        "clearing:card:USD": 40,
        "receivable:acme:USD": -40,
        "suspense:receivable:acme:USD": 60,
        "suspense:clearing:card:USD": -60,
    }


# ---- Two at once


async def test_of_many_who_post_a_fact_at_once_one_does(books: RecipeBooks) -> None:
    await books.put(MOVE)
    made = await asyncio.gather(*(books.post("move", ORDER, ONCE) for _ in range(12)))
    assert all(posting == made[0] for posting in made)
    assert await books.balances() == {"to:USD": 7, "from:USD": -7}


async def test_of_two_facts_that_differ_one_is_posted(books: RecipeBooks) -> None:
    """They share no account, so only the lock of the posting keeps them apart."""
    await books.put(
        recipe(
            **moving(
                parameters=[AMOUNT, parameter("who", "NAME")],
                accounts=[
                    account("from", account_id="from:{who}"),
                    account("to", account_id="to:{who}"),
                ],
            )
        )
    )
    outcomes = await asyncio.gather(
        *(books.post("move", ORDER, {**ONCE, "who": f"p{n}"}) for n in range(8)),
        return_exceptions=True,
    )
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert len(refused) == 7
    assert {error_info(each).reason for each in refused} == {"POSTING_EXISTS"}
    assert sum(abs(minor) for minor in (await books.balances()).values()) == 14


async def test_many_facts_at_once_on_the_same_new_accounts_are_all_posted(
    books: RecipeBooks,
) -> None:
    await books.put(MOVE)
    facts = [reference("order", f"o-{n}") for n in range(20)]
    await asyncio.gather(*(books.post("move", each, ONCE) for each in facts))
    assert await books.balances() == {"to:USD": 140, "from:USD": -140}


async def test_an_account_that_somebody_else_makes_meanwhile_is_looked_at_again(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    """It was missing when the fact was judged, and is closed once the fact can go on: nothing is burnt by that."""
    await books.put(MOVE)
    with psycopg.connect(database.service) as other:
        other.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        flags = "'USD', 1, false, false, true"
        other.execute(
            "INSERT INTO ledger.account (tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits,"
            " credits_must_not_exceed_debits, closed, owner, metadata, created_at)"
            f" VALUES (%s, 'to:USD', {flags}, '', '{{}}', now())",
            [tenant],
        )
        other.execute(
            "INSERT INTO ledger.balance (tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits,"
            f" credits_must_not_exceed_debits, closed, updated_at) VALUES (%s, 'to:USD', {flags}, now())",
            [tenant],
        )
        posting = asyncio.create_task(post_all(books, fact("o-1")))
        await _until_somebody_waits(database)
        other.commit()
    (result,) = await posting
    assert result.refusal.reason == "RECIPE_REFUSED"
    assert result.refusal.metadata["result"] == "DEBIT_ACCOUNT_CLOSED"
    assert rows(database, tenant)["ledger.transfer_id"] == 0


async def _until_somebody_waits(database: DatabaseUrls) -> None:
    """Wait until a statement waits for the lock of another transaction."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%insert_accounts%'"
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        async with asyncio.timeout(20):
            while True:
                if connection.execute(waiting).fetchone() != (0,):
                    return
                await asyncio.sleep(0.01)


async def test_a_wallet_is_never_overdrawn_by_many_at_once(books: RecipeBooks) -> None:
    await books.post("credit-grant", reference("grant", "g"), {"org": "acme", "amount": usd(100)})
    spend = {"org": "acme", "amount": usd(30)}
    outcomes = await asyncio.gather(
        *(books.post("credit-use", reference("order", f"o-{n}"), spend) for n in range(8)),
        return_exceptions=True,
    )
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert {error_info(each).metadata["result"] for each in refused} == {"SOURCES_EXHAUSTED"}
    assert len(refused) == 5
    assert (await books.balances())["credit:acme:USD"] == -10


# ---- Many in one call


async def test_facts_of_a_call_are_judged_one_by_one(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    await books.put(MOVE)
    await books.open("receivable:shut:USD", flags=pb.AccountFlags(closed=True))
    existing = await books.post("move", reference("order", "known"), ONCE)
    shut = {"debtor": "shut", "amount": usd(5)}
    results = await post_all(
        books,
        fact("o-1"),
        fact("known"),
        fact("known", {"amount": usd(8)}),
        fact("o-2", recipe="nothing"),
        fact("o-3", {}),
        fact("o-4", shut, recipe="write-off"),
        fact("o-5", recipe="Bad Name"),
        fact("o-6"),
    )
    assert reasons(results) == [
        "POSTED",
        "POSTED",
        "POSTING_EXISTS",
        "RECIPE_NOT_FOUND",
        "INVALID_FIELD",
        "RECIPE_REFUSED",
        "INVALID_FIELD",
        "POSTED",
    ]
    assert results[1].posting == existing
    assert results[5].refusal.metadata["account_id"] == "receivable:shut:USD"
    assert await books.balances() == {"to:USD": 21, "from:USD": -21}
    assert "losses:bad-debt:USD" not in await books.accounts(), "what is refused leaves nothing"
    again = await post_all(books, fact("o-1"), fact("o-6"))
    assert [each.posting for each in again] == [results[0].posting, results[7].posting]
    assert rows(database, tenant)["ledger.posting"] == 3


async def test_a_fact_may_stand_twice_in_a_call(books: RecipeBooks) -> None:
    await books.put(MOVE)
    results = await post_all(books, fact("o-1"), fact("o-1"), fact("o-1", {"amount": usd(8)}))
    assert reasons(results) == ["POSTED", "POSTED", "POSTING_EXISTS"]
    assert results[0].posting == results[1].posting
    assert await books.balances() == {"to:USD": 7, "from:USD": -7}


async def test_facts_of_a_call_see_those_before_them(books: RecipeBooks) -> None:
    payment = {
        "processor": "card",
        "debtor": "acme",
        "amount": usd(100),
        "payment": "p",
        "attempt": "1",
        "order": "o",
        "person": "a",
    }
    refund = {**payment, "attempt": "2", "refund_of": "1", "amount": usd(40)}
    await books.open("receivable:acme:USD", flags=pb.AccountFlags(closed=True))
    spend = {"org": "acme", "amount": usd(5)}
    results = await post_all(
        books,
        fact(values=payment, recipe="payment-received", reference=reference("payment", "p", "1")),
        fact(values=refund, recipe="payment-refunded", reference=reference("payment", "p", "2")),
        fact("g", {"org": "acme", "amount": usd(9)}, recipe="credit-grant"),
        fact("s", spend, recipe="credit-use"),
        fact("t", spend, recipe="credit-use"),
    )
    assert reasons(results)[:3] == ["POSTED"] * 3
    # The receivable is closed, whatever the wallet holds.
    assert reasons(results)[3:] == ["RECIPE_REFUSED"] * 2
    assert await books.balances() == {
        "clearing:card:USD": 60,
        "suspense:receivable:acme:USD": -60,
        "credits-granted:USD": 9,
        "credit:acme:USD": -9,
    }


async def test_calls_that_share_accounts_do_not_wait_for_one_another_for_ever(
    books: RecipeBooks,
) -> None:
    await books.put(MOVE)
    calls = [
        [fact(f"o-{n}") for n in (range(40) if turn % 2 else reversed(range(40)))]
        for turn in range(4)
    ]
    for results in await asyncio.gather(*(post_all(books, *facts) for facts in calls)):
        assert set(reasons(results)) == {"POSTED"}
    assert await books.balances() == {"to:USD": 280, "from:USD": -280}


async def test_a_call_takes_a_thousand_facts_and_no_more(books: RecipeBooks) -> None:
    await books.put(MOVE)
    results = await post_all(books, *(fact(f"o-{n}") for n in range(1000)))
    assert set(reasons(results)) == {"POSTED"}
    assert await books.balances() == {"to:USD": 7000, "from:USD": -7000}
    for count in (0, 1001):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await post_all(books, *(fact(f"x-{n}") for n in range(count)))
        expected = "BATCH_TOO_LARGE" if count else "INVALID_FIELD"
        assert error_info(refused.value).reason == expected


# ---- The books


async def test_services_can_only_add_to_what_was_posted(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    await books.put(MOVE)
    await books.post("move", ORDER, ONCE)
    with psycopg.connect(database.service, autocommit=True) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, false)", [tenant])
        found = connection.execute("SELECT recipe, version FROM ledger.posting").fetchall()
        assert found == [("move", 1)]
        for statement in (
            "UPDATE ledger.posting SET version = 2",
            "DELETE FROM ledger.posting",
            "UPDATE ledger.recipe SET version = 2",
            "DELETE FROM ledger.recipe",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_a_posting_is_stored_with_its_transfers(
    books: RecipeBooks, database: DatabaseUrls, tenant: str
) -> None:
    await books.put(MOVE)
    posting = await books.post("move", ORDER, ONCE)
    assert posting.posting_id == str(posting_id(tenant, "move", Reference("order", "o-1")))
    with psycopg.connect(database.owner_admin) as connection:
        row = connection.execute(
            "SELECT p.legs, p.groups, p.transfer_ids, p.parameters, t.posting_id FROM ledger.posting p"
            " JOIN ledger.transfer t ON t.tenant_id = p.tenant_id AND t.posting_id = p.posting_id"
            " WHERE p.tenant_id = %s",
            [tenant],
        ).fetchone()
    transfer_id = UUID(posting.legs[0].transfer.transfer.transfer_id)
    assert row == (
        ["moved"],
        [0],
        [transfer_id],
        {"amount": {"amount": ["USD", 7]}},
        UUID(posting.posting_id),
    )
