"""The bills of an organisation, each explained, read side by side in an event loop."""

import asyncio

from payments_sdk.payments.billing.v1 import ExplainChargeRequest, ListChargesRequest
from tollmesh_client import AsyncClient


async def explain(client: AsyncClient, charge_id: str) -> str:
    """Say in a line what a charge is made of."""
    answer = await client.charge.explain_charge(
        ExplainChargeRequest(charge_id=charge_id), timeout=10
    )
    parts = [f"{line.line.sku} in {len(line.steps)} steps" for line in answer.explanation.lines]
    return f"{charge_id}: {', '.join(parts)}"


async def main() -> None:
    """Read all pages, and explain what they hold."""
    async with AsyncClient() as client:
        charges = client.charge.all_charges(
            ListChargesRequest(org_id="example-python", page_size=50)
        )
        ids = [charge.charge_id async for charge in charges]
        print(*await asyncio.gather(*(explain(client, charge_id) for charge_id in ids)), sep="\n")


asyncio.run(main())
