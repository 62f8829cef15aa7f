"""Fixtures that every suite may use: databases on one shared Postgres.

A test that asks for one fails when Postgres cannot be started; it is never skipped.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest
import structlog
from _pytest.nodeid import NodeId
from hypothesis import HealthCheck, settings

from services.runtime import telemetry
from services.runtime.process.heap import uncollected
from tests.support.measures import loop_holds
from tests.support.postgres import server as postgres
from tests.support.postgres.server import DatabaseUrls, Server

INTEGRATION = Path(__file__).parent / "integration"

# The same examples in every run, and no clock that judges them: a busy machine is no fault of a strategy.
settings.register_profile(
    "tollmesh", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tollmesh")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test an id of its own, and every module of the integration tests one worker.

    Generated REST tests come with the id of the function that they were made from, and of tests that share
    one, pytest-xdist runs a single one and calls the rest done.

    Raises:
        pytest.UsageError: two tests share an id all the same, or a test cannot be given to its group.
    """
    for item in items:
        if not item.nodeid.endswith(item.name):
            item._id = item.id.with_params(item.name.partition("[")[2].removesuffix("]"))
    shared = [
        nodeid for nodeid, count in Counter(item.nodeid for item in items).items() if count > 1
    ]
    if shared:
        raise pytest.UsageError(f"tests that share an id would not all run: {shared[:5]}")
    for item in items:
        # One worker runs all of a module that has a database or a mesh, which is then made once.
        if item.path.is_relative_to(INTEGRATION) and not item.get_closest_marker("xdist_group"):
            module = item.path.relative_to(INTEGRATION).with_suffix("")
            item.add_marker(pytest.mark.xdist_group(module.as_posix()))
        # pytest-xdist 3.8 writes the group where pytest 9.2 no longer reads it: every module was run by both workers.
        if getattr(config.option, "loadgroup", False) and (group := _group(item)):
            item._id = NodeId.parse(f"{item.nodeid}@{group}")
            if not item.nodeid.endswith(f"@{group}"):
                raise pytest.UsageError(
                    "pytest reads ids of tests elsewhere: groups would be split"
                )


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return "" if marker is None else str(marker.args[0])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without looking for garbage: nearly all that is made stays, and each look goes through it all."""
    with uncollected():
        return (yield)


def pytest_collection_finish() -> None:
    """Keep what all tests share out of later garbage collections: each would hold a loop for half a second."""
    gc.collect()
    gc.freeze()


_TESTS_BETWEEN_COLLECTIONS = 100
_finished = itertools.count(1)


def pytest_runtest_logfinish() -> None:
    """Keep out what the tests before have left alive too, between two tests, when no loop runs."""
    if next(_finished) % _TESTS_BETWEEN_COLLECTIONS == 0:
        gc.collect()
        gc.freeze()


_HOLDS = pytest.StashKey[loop_holds.Holds]()


def pytest_configure(config: pytest.Config) -> None:
    """Let every process of ours that a test starts say what holds its event loop."""
    # As in production. What structlog does without being told takes a quarter of a second for a traceback.
    telemetry.configure_logs("warning")
    holds = config.stash[_HOLDS] = loop_holds.Holds()
    os.environ[loop_holds.SETTING] = str(holds.file)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what they wrote."""
    config.stash[_HOLDS].file.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Put the logs back as they were: a command that runs in this process sets them for itself."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session", autouse=True)
async def own_loop(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Watch the loop in which tests start services of their own."""
    holds = request.config.stash[_HOLDS]
    holds.watch()
    yield
    holds.unwatch()


@pytest.fixture(autouse=True)
def nothing_holds_a_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test in which a service held an event loop for 250 ms: every other call waits meanwhile."""
    yield
    held = request.config.stash[_HOLDS].take()
    if held:
        pytest.fail("\n".join(map(str, held)), pytrace=False)


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str) -> Iterator[Server]:
    """The Postgres server that all workers of this run share."""
    server, present = postgres.join(testrun_uid[:12])
    yield server
    os.close(present)


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """A migrated database of this worker's own. Use a fresh tenant per test instead of cleaning it."""
    return postgres_server.new_database(worker_id)


@pytest.fixture(scope="session")
def database_url(database: DatabaseUrls) -> DatabaseUrls:
    """The worker's database, under the name that reads well in `running(database_url, [...])`."""
    return database


@pytest.fixture(scope="session")
def untouched_database(postgres_server: Server) -> DatabaseUrls:
    """A migrated database that nobody writes to, for tests of plans.

    Autovacuum takes statistics of tables that tests write to, whenever it likes; plans change with them.
    """
    return postgres_server.new_database("untouched")


@pytest.fixture
def new_database(postgres_server: Server) -> Iterator[Callable[..., DatabaseUrls]]:
    """Make databases of a test's own: `new_database()` is migrated, `new_database(empty=True)` is not."""
    made: list[DatabaseUrls] = []

    def make(*, empty: bool = False) -> DatabaseUrls:
        template = "template1" if empty else postgres.TEMPLATE
        made.append(postgres_server.new_database("test", template=template))
        return made[-1]

    yield make
    for urls in made:
        postgres_server.drop_database(urls)
