"""Whatever is done to metering, in whatever order, it stands as a plain model does. `make chaos` goes on for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.billing.metering_machine import stands_as_the_model_does
from tests.support.mesh.serving import Mesh

SETTINGS = settings(
    max_examples=6,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    # A failure is told as it was found: a shorter one would take minutes to find.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


async def test_metering_is_what_its_model_is(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    await stands_as_the_model_does(mesh, monkeypatch, SETTINGS)
