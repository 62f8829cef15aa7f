"""Resumes charges that their callers left half-way: money must not stay half-posted when a client never returns."""

from __future__ import annotations

import time

from services.billing import store
from services.billing.app import Charges
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_uuid
from services.runtime.interruptions import Interruptions
from services.runtime.loops import Loop

INTERVAL_SECONDS = 30.0
TENANTS_MAX = 100
CHARGES_MAX = 100
CALL_SECONDS = 30.0

# Names no tenant's rows: the question whose turn it is concerns all of them.
_NOBODY = "mesh"


class Sweep:
    """Runs in the background, at the start and every 30 seconds; any number of processes may do so."""

    def __init__(
        self, database: Database, charges: Charges, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._database = database
        self._charges = charges
        self._resuming = Interruptions("resuming of charges", database.conditions)
        self._loop = Loop(
            "billing sweep",
            self._sweep,
            conditions=database.conditions,
            rest_seconds=interval_seconds,
            # A charge that is resumed is posted, for which there must be room.
            writes=True,
        )

    async def start(self) -> None:
        """Begin sweeping."""
        self._loop.start()

    async def stop(self) -> None:
        """End sweeping; a charge that is being resumed stays PENDING and is resumed later."""
        await self._loop.stop()

    async def once(self) -> int:
        """Resume what is due, at most 100 charges of 100 tenants; returns how many were finished."""
        with acting(_call(_NOBODY)):
            async with self._database.read() as work:
                tenants = await store.tenants_to_resume(work, TENANTS_MAX)
        finished = 0
        for tenant_id in tenants:
            finished += await self._tenant(tenant_id)
        return finished

    async def _tenant(self, tenant_id: str) -> int:
        with acting(_call(tenant_id)):
            async with self._database.unit_of_work("billing.take_to_resume") as work:
                charge_ids = await store.take_to_resume(work, CHARGES_MAX)
        finished = 0
        for charge_id in charge_ids:
            finished += await self._charge(tenant_id, charge_id)
        return finished

    async def _charge(self, tenant_id: str, charge_id: str) -> bool:
        with acting(_call(tenant_id)):
            try:
                await self._charges.resume(charge_id)
            except Exception as error:
                # Whatever it is, it is this charge's: the others go on, and this one is tried again later.
                self._resuming.failed(error, charge_id=charge_id)
                return False
        self._resuming.works()
        return True

    async def _sweep(self) -> None:
        await self.once()


def _call(tenant_id: str) -> CallContext:
    call_id = str(new_uuid())
    return CallContext(
        tenant_id=tenant_id,
        principal_id="mesh:billing.sweep",
        scopes=frozenset({"*"}),
        request_id=call_id,
        correlation_id=call_id,
        deadline_at=time.monotonic() + CALL_SECONDS,
    )
