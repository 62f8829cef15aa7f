"""Events of one site arrive in another's log, whole and in order, and have their effects there."""

from __future__ import annotations

from tests.integration.events.jetstream.conftest import MakeLab
from tests.support.events import effects_reaction, inversions, new_tenant
from tests.support.jetstream import arrived, options, running
from tests.support.nats import Nats


async def test_from_database_to_database(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    for version in range(5):
        await east.publish(tenant, "k1", version)
    async with (
        running(east, options(server.url, "east1")),
        running(west, options(server.url, "west1", "east1"), [effects_reaction()]) as site,
    ):
        for version in range(5, 10):
            await east.publish(tenant, "k1", version)
        found = await arrived(west, tenant, 10)
        await site.backbone.drain()
    assert [row["origin"] for row in found] == ["east1"] * 10
    effects = await west.effects(tenant)
    assert [effect.version for effect in effects] == list(range(10))
    assert inversions(effects) == []
