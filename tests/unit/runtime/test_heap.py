"""Collections are kept away by several threads at once, and come back."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from services.runtime.process.heap import loading, uncollected

THREADS = 4
TIMES = 3_000


def switch_often() -> None:
    for _ in range(TIMES):
        with uncollected():
            assert not gc.isenabled()


def test_the_collector_works_again_after_many_threads_kept_it_away_at_once() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=switch_often) for _ in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
    finally:
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert gc.isenabled()


@pytest.mark.parametrize("keep_away", [loading, uncollected])
def test_who_leaves_first_lets_nothing_be_collected_yet(
    keep_away: Callable[[], AbstractContextManager[None]],
) -> None:
    with uncollected():
        with keep_away():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_stays_as_it_was_where_it_did_not_work() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
