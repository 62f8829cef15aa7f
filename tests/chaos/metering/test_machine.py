"""The machine of metering, for longer than the suite has time; in `make test` a single run of another length."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings

from services.metering import manifest
from services.runtime.clock import ManualClock
from tests.support.billing.metering import NOW, catalogue_of
from tests.support.billing.metering_machine import stands_as_the_model_does
from tests.support.mesh.serving import Served, running
from tests.support.postgres.server import DatabaseUrls

RUNS = 60 if os.environ.get("TOLLMESH_CRASH_POINTS") == "all" else 1
SETTINGS = settings(
    max_examples=RUNS,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


async def test_metering_is_what_its_model_is_for_long(
    new_database: Callable[..., DatabaseUrls], monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: Served = [manifest.SERVICE, catalogue_of("llm.tokens").build]
    async with running(new_database(), builds, clock=ManualClock(NOW)) as mesh:
        await stands_as_the_model_does(mesh, monkeypatch, SETTINGS)
