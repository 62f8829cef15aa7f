"""A process that fires timers, or asks for things about them, to be killed on the way.

`python -m tests.support.timers.worker URLS_JSON TENANT fire|ask SECONDS`: business time stands so many seconds after
the start of the tests' time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from uuid import NAMESPACE_OID, uuid5

from payments.events.v1 import (
    events_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
    timers_pb2,
)

from services.events import manifest
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs
from services.runtime.timers import store
from tests.support.events.lab import call
from tests.support.mesh.serving import Mesh, running
from tests.support.timers.lab import START, TimerLab

pb = events_service_pb2
CANCELLED_KEY = "to-be-cancelled"


def request_id(tenant: str, name: str) -> str:
    """The same request has the same id in every process."""
    return str(uuid5(NAMESPACE_OID, f"{tenant}/{name}"))


async def ask(mesh: Mesh, tenant: str, timer_id: str) -> tuple[object, ...]:
    """Put a schedule, delete another and cancel a timer; returns the answers."""
    stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
    bell = events_pb2.EventType(subject="bell.rung", owner="office")
    bell.versions.add(version=1, json_schema="{}")
    await stub.RegisterEventTypes(pb.RegisterEventTypesRequest(event_types=[bell]))
    answers: list[object] = []
    for name in ("kept", "dropped"):
        schedule = timers_pb2.Schedule(name=name, cron="0 9 * * *", subject="bell.rung", json=b"{}")
        put = pb.PutScheduleRequest(request_id=request_id(tenant, name), schedule=schedule)
        answers.append(await stub.PutSchedule(put))
    drop = pb.DeleteScheduleRequest(request_id=request_id(tenant, "drop"), name="dropped")
    answers.append(await stub.DeleteSchedule(drop))
    cancel = pb.CancelTimerRequest(request_id=request_id(tenant, "cancel"), timer_id=timer_id)
    answers.append(await stub.CancelTimer(cancel))
    return tuple(answers)


async def timer_of(lab: TimerLab, tenant: str) -> str:
    """The id of the timer that is to be cancelled; empty once it was."""
    with acting(call(tenant)):
        async with lab.database.read() as work:
            found = await store.page(work, CANCELLED_KEY, None, "", 1)
    return found[0].timer_id if found else ""


async def work(urls: DatabaseUrls, tenant: str, job: str, seconds: float) -> None:
    """Do one job."""
    lab = TimerLab(urls, ManualClock(START + timedelta(seconds=seconds)))
    try:
        if job == "fire":
            await lab.fire()
            return
        timer_id = await timer_of(lab, tenant)
        async with running(urls, [manifest.SERVICE], clock=lab.clock) as mesh:
            await ask(mesh, tenant, timer_id)
    finally:
        await lab.close()


def main() -> None:
    """Work from the command line."""
    configure_logs("critical")
    urls, tenant, job, seconds = sys.argv[1:]
    asyncio.run(work(DatabaseUrls(**json.loads(urls)), tenant, job, float(seconds)))


if __name__ == "__main__":
    main()
