"""Kill -9 of the whole mesh at every named crash point: after a restart nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from services.cli.errors import CliError
from services.runtime.postgres import EmbeddedPostgres
from tests.chaos import crash_points
from tests.chaos.mesh.scenario import Scenario
from tests.support.process import MeshProcess, start

# A background task may take its time to pass a point.
PASS_SECONDS = 20.0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data directory for all deaths of a worker: each start finds what the death before it left.

    In the end every event has had its effect. (What the monitor and the webhooks hear may be on its way when the mesh
    stops.)
    """
    folder = tmp_path_factory.mktemp("mesh") / "data"
    yield folder
    with start(folder) as mesh:
        assert mesh.stop() == 0
    with (
        EmbeddedPostgres(folder) as postgres,
        psycopg.connect(postgres.admin_url("tollmesh")) as connection,
    ):
        for remains in (
            "mesh.delivery WHERE consumer NOT LIKE 'monitoring.%' AND consumer <> 'events.webhooks'",
            "mesh.dead_letter",
        ):
            row = connection.execute(f"SELECT count(*) FROM {remains}").fetchone()
            assert row == (0,), remains


@pytest.mark.parametrize("point", sorted(crash_points.ALL))
def test_nothing_is_lost_or_doubled(point: str, data_dir: Path) -> None:
    scenario = Scenario(f"t-{uuid4()}", loses_an_answer=point.startswith("orchestration."))
    prelude = crash_points.AFTER_DEATH_AT.get(point)
    if prelude:
        die_at(prelude, scenario, data_dir)
        let_a_minute_pass(data_dir)
        die_at(point, None, data_dir)
    else:
        die_at(point, scenario, data_dir)
    with start(data_dir) as mesh:
        scenario.let_leases_run_out(mesh.ready["database_url"])
        scenario.run(mesh.session)
        scenario.run(mesh.session)
        scenario.check(mesh.ready["database_url"])
        mesh.kill()


def let_a_minute_pass(data_dir: Path) -> None:
    """Make the charges that were left half-way due, as they are a minute later."""
    with EmbeddedPostgres(data_dir) as postgres:
        admin_url = postgres.admin_url("tollmesh")
        with psycopg.connect(admin_url) as connection:
            connection.execute(
                "UPDATE billing.charge SET resume_at = clock_timestamp() WHERE status = 1"
            )


def die_at(point: str, scenario: Scenario | None, data_dir: Path) -> None:
    """Run the scenario, or nothing but what runs by itself, on a mesh that dies at the point."""
    with MeshProcess(data_dir, crash_at=point) as mesh:
        if mesh.await_ready() and scenario:
            try:
                scenario.run(mesh.session)
            except CliError as error:
                assert error.reason in {"", "DATABASE_UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"}, error
        assert mesh.await_death(PASS_SECONDS) == -signal.SIGKILL, (
            f"{point} was never passed: {mesh.errors()[-2000:]}"
        )
