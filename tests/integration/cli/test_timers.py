"""`tollmesh timers`, `tollmesh schedules` and `tollmesh journeys`, used right and used wrong."""

from __future__ import annotations

from uuid import uuid4

import pytest
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc

from services.cli.errors import EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.support.mesh.process import MeshProcess
from tests.support.timers.journeys import start_seasoning

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def subject(mesh: MeshProcess) -> str:
    """A type of events whose second version waits for its cutover."""
    subject = f"probe.x{uuid4().hex}"
    type_ = events_pb2.EventType(subject=subject, owner="lab")
    for version in (1, 2):
        type_.versions.add(version=version, json_schema='{"type": "object"}')
    with mesh.client() as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        register = events_service_pb2.RegisterEventTypesRequest(event_types=[type_])
        client.call(stub.RegisterEventTypes, register)
    return subject


def test_a_timer_is_shown_and_cancelled(tollmesh: Tollmesh, subject: str) -> None:
    key = f"event-type/{subject}/2"
    assert key in tollmesh("timers").out
    (timer,) = tollmesh("timers", "list", "--key", key, "-o", "json").json()["timers"]
    assert (timer["key"], timer["subject"]) == (key, "event-type.cutover")
    early = tollmesh("timers", "list", "--key", key, "--due-before", "2026-01-01", "-o", "json")
    assert early.json()["timers"] == []
    assert tollmesh("timers", "list", "--due-before", "soon").exit_code == EXIT_USAGE
    assert len(tollmesh("timers", "list", "--limit", "1", "-o", "json").json()["timers"]) == 1
    done = tollmesh("timers", "cancel", timer["timer_id"])
    assert (done.exit_code, key in done.out) == (0, True)
    assert tollmesh("timers", "list", "--key", key, "-o", "json").json()["timers"] == []
    again = tollmesh("timers", "cancel", timer["timer_id"])
    assert (again.exit_code, "NOT_FOUND" in again.err) == (EXIT_REFUSED, True)


def test_a_schedule_is_put_shown_and_deleted(tollmesh: Tollmesh, subject: str) -> None:
    put = ("schedules", "put", subject, "--subject", subject, "--data", '{"a": 1}')
    done = tollmesh(
        *put, "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin", "-o", "json"
    ).json()
    assert (done["key"], done["missed"]) == (subject, "MISSED_POLICY_ONE")
    assert done["next_at"][11:16] in {"00:30", "01:30"}
    people = tollmesh(*put, "--cron", "0 9 * * MON", "--missed", "backfill", "--key", "k")
    assert "backfill" in people.out
    assert "0 9 * * MON" in tollmesh("schedules").out
    found = tollmesh("schedules", "list", "-o", "json").json()["schedules"]
    assert [item["cron"] for item in found if item["name"] == subject] == ["0 9 * * MON"]
    wrong = tollmesh(*put, "--cron", "61 * * * *")
    assert (wrong.exit_code, "SCHEDULE_INVALID" in wrong.err) == (EXIT_REFUSED, True)
    assert tollmesh("schedules", "delete", subject, "--yes").exit_code == 0
    assert tollmesh("schedules", "delete", subject, "-y", "-o", "json").exit_code == EXIT_REFUSED


def test_a_journey_is_shown_with_its_steps(tollmesh: Tollmesh, mesh: MeshProcess) -> None:
    names = [f"j-{uuid4()}" for _ in range(2)]
    url = mesh.ready["database_url"]
    start_seasoning(url, "default", names[0])
    start_seasoning(url, "default", names[1], cancelled="the buyer asked")
    assert names[0] in tollmesh("journeys").out
    listed = tollmesh(
        "journeys", "list", "--type", "seasoning", "--status", "running", "-o", "json"
    )
    ids = [item["journey_id"] for item in listed.json()["journeys"]]
    assert (names[0] in ids, names[1] in ids) == (True, False)
    assert "held" in tollmesh("journeys", "list", "--state", "held", "--limit", "1").out
    shown = tollmesh("journeys", "show", "seasoning", names[1])
    for text in (
        "reason: the buyer asked",
        "compensated",
        "publish payments.events.v1.StepFailed",
    ):
        assert text in shown.out
    found = tollmesh("journeys", "show", "seasoning", names[1], "-o", "json").json()
    assert [step["kind"].removeprefix("JOURNEY_STEP_KIND_") for step in found["steps"]] == [
        "STARTED",
        "COMPENSATED",
        "CANCELLED",
    ]
    assert tollmesh("journeys", "show", "seasoning", "none").exit_code == EXIT_REFUSED
