"""One tenant's books as whoever posts recipes sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import posting_pb2, recipe_pb2
from payments.type.v1.type_pb2 import Money

from services.runtime.edge import json_messages

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub


def usd(minor_units: int) -> Money:
    """An amount in dollars."""
    return Money(currency_code="USD", minor_units=minor_units)


def parameter(value: Any) -> posting_pb2.Parameter:
    """Write a value: a list of mappings is a list of groups, a float-free number in a tuple a decimal."""
    if isinstance(value, posting_pb2.Parameter):
        return value
    if isinstance(value, Money):
        return posting_pb2.Parameter(amount=value)
    if isinstance(value, bool):
        return posting_pb2.Parameter(flag=value)
    if isinstance(value, str):
        return posting_pb2.Parameter(text=value)
    groups = [posting_pb2.ParameterGroup(values=parameters(group)) for group in value]
    return posting_pb2.Parameter(list=posting_pb2.ParameterList(groups=groups))


def rate(text: str) -> posting_pb2.Parameter:
    """Write a rate."""
    return posting_pb2.Parameter(decimal=text)


def parameters(values: Mapping[str, Any]) -> dict[str, posting_pb2.Parameter]:
    """Write values by name."""
    return {name: parameter(value) for name, value in values.items()}


def reference(kind: str, name: str, part: str = "") -> pb.Reference:
    """Write a reference."""
    return pb.Reference(kind=kind, id=name, part=part)


def recipe(**content: Any) -> recipe_pb2.Recipe:
    """Write a recipe from the shape of its YAML."""
    return json_messages.parse(content, recipe_pb2.Recipe())


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Return what a refusal says of itself."""
    status = rpc_status.from_call(cast("Any", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info


@dataclass
class RecipeBooks:
    """One tenant's ledger, posted to by recipes."""

    stub: LedgerServiceAsyncStub

    async def post(
        self,
        recipe: str,
        for_: pb.Reference,
        values: Mapping[str, Any],
        **more: Any,
    ) -> posting_pb2.Posting:
        """Post a fact."""
        request = service_pb.PostRecipeRequest(
            request_id=more.pop("request_id", None) or str(uuid4()),
            recipe=recipe,
            parameters=parameters(values),
            reference=for_,
            **more,
        )
        return (await self.stub.PostRecipe(request)).posting

    async def refusal(
        self, recipe: str, for_: pb.Reference, values: Mapping[str, Any], **more: Any
    ) -> error_details_pb2.ErrorInfo:
        """Post a fact that is refused, and return why."""
        try:
            posting = await self.post(recipe, for_, values, **more)
        except grpc.aio.AioRpcError as error:
            return error_info(error)
        raise AssertionError(f"it was posted: {posting}")

    async def put(self, recipe: recipe_pb2.Recipe, **more: Any) -> recipe_pb2.Recipe:
        """Store a recipe."""
        request = service_pb.PutRecipeRequest(
            request_id=more.pop("request_id", None) or str(uuid4()), recipe=recipe, **more
        )
        return (await self.stub.PutRecipe(request)).recipe

    async def open(self, name: str, account_type: str = "ASSET", **more: Any) -> None:
        """Create an account."""
        account = pb.Account(
            account_id=name,
            currency_code="USD",
            type=pb.AccountType.Value(f"ACCOUNT_TYPE_{account_type}"),
            **more,
        )
        request = service_pb.CreateAccountsRequest(accounts=[account])
        (answer,) = (await self.stub.CreateAccounts(request)).results
        assert answer.result == service_pb.ACCOUNT_RESULT_OK, answer

    async def balances(self) -> dict[str, int]:
        """Return debits less credits of all accounts that have any, by account."""
        found: dict[str, int] = {}
        async for account in self._accounts():
            sums = account.balances
            if sums.debits_posted or sums.credits_posted:
                found[account.account_id] = sums.debits_posted - sums.credits_posted
        return found

    async def accounts(self) -> set[str]:
        """Return the names of all accounts."""
        return {account.account_id async for account in self._accounts()}

    async def account(self, name: str) -> pb.Account:
        """Return an account."""
        return (await self.stub.GetAccount(service_pb.GetAccountRequest(account_id=name))).account

    async def entries(self, name: str) -> list[pb.Entry]:
        """Return the entries of an account."""
        request = service_pb.ListEntriesRequest(account_id=name, page_size=1000)
        return list((await self.stub.ListEntries(request)).entries)

    async def _accounts(self) -> Any:
        token = ""
        while True:
            request = service_pb.ListAccountsRequest(page_size=1000, page_token=token)
            page = await self.stub.ListAccounts(request)
            for account in page.accounts:
                yield account
            token = page.next_page_token
            if not token:
                return
