"""What holds the event loop is found; what only makes it late is not."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.runtime.process.loop_watch import Hold, LoopWatch, read_holds, watching
from tests.support.measures.loop_holds import is_ours

HOLD_S = 0.08


def held_by(work: Callable[[], object]) -> list[Hold]:
    """What is seen of a loop that runs some work, with a watch that is quicker than the product's."""
    holds: list[Hold] = []

    async def run() -> None:
        watch = LoopWatch(holds.append, hold_seconds=HOLD_S)
        watch.start()
        await asyncio.sleep(0.05)
        work()
        await asyncio.sleep(0.05)
        watch.stop()

    asyncio.run(run())
    return holds


def spin(seconds: float) -> None:
    """Use the processor for so long, however long that takes on a busy machine."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def hash_for(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        hashlib.sha256(b"x" * 100_000).digest()


@pytest.mark.parametrize(
    ("work", "kind", "name"),
    [
        (lambda: spin(3 * HOLD_S), "cpu", "spin"),
        (lambda: hash_for(3 * HOLD_S), "cpu", "hash_for"),
        (lambda: time.sleep(4 * HOLD_S), "blocked", "<lambda>"),
        (lambda: threading.Event().wait(4 * HOLD_S), "blocked", "Condition.wait"),
        (lambda: subprocess.run(["sleep", "0.5"], check=True), "blocked", "Popen"),
    ],
)
def test_what_works_or_waits_in_the_loop_is_named(
    work: Callable[[], object], kind: str, name: str
) -> None:
    (hold,) = held_by(work)
    assert hold.kind == kind
    assert any(name in place.function for place in hold.stack)
    assert hold.stack[0].function.endswith("run") and hold.stack[0].is_coroutine


async def test_what_waits_as_it_should_holds_nothing() -> None:
    holds: list[Hold] = []
    watch = LoopWatch(holds.append, hold_seconds=HOLD_S)
    watch.start()
    await asyncio.sleep(2 * HOLD_S)
    await asyncio.to_thread(time.sleep, 2 * HOLD_S)
    running = await asyncio.create_subprocess_exec("sleep", "0.2")
    await running.wait()
    for _ in range(200):
        spin(0.001)
        await asyncio.sleep(0)
    watch.stop()
    assert holds == []


def test_a_process_that_gets_no_processor_holds_nothing(tmp_path: Path) -> None:
    """It is stopped for longer than a hold may take, as a machine that is busy with others would."""
    file = tmp_path / "holds"
    script = (
        "import asyncio, os, signal, subprocess, sys; from pathlib import Path\n"
        "from services.runtime.process.loop_watch import watching\n"
        "async def run():\n"
        "    with watching(Path(sys.argv[1])):\n"
        "        await asyncio.sleep(0.1)\n"
        "        print('go', flush=True)\n"
        "        for _ in range(100): await asyncio.sleep(0.005)\n"
        "asyncio.run(run())\n"
    )
    file.write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        process.send_signal(19)
        time.sleep(0.6)
        process.send_signal(18)
        assert process.wait(30) == 0
    assert read_holds(file.read_text()) == []


async def test_holds_are_written_to_a_file_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "holds"
    with watching(file):
        await asyncio.sleep(0.05)
        spin(0.4)
        await asyncio.sleep(0.05)
    (hold,) = read_holds(file.read_text())
    assert hold.kind == "cpu" and hold.held_ms >= 250
    assert "spin" in str(hold)
    with watching(None):
        pass


def test_a_test_that_blocks_pays_for_it_alone() -> None:
    (hold,) = held_by(lambda: time.sleep(4 * HOLD_S))
    assert not is_ours(hold.stack)


def test_another_loop_of_the_same_thread_is_none_of_its() -> None:
    """A loop that stands still, because nobody runs it, is held by nothing."""
    holds: list[Hold] = []
    watch = LoopWatch(holds.append, hold_seconds=HOLD_S)

    async def hold() -> None:
        spin(3 * HOLD_S)

    with asyncio.Runner() as runner:

        async def start() -> None:
            watch.start()
            await asyncio.sleep(0.05)

        runner.run(start())
        other = asyncio.new_event_loop()
        other.run_until_complete(hold())
        other.close()
        asyncio.run(hold())
        watch.stop()
    assert holds == []


def test_no_collection_begins_while_frames_of_the_other_thread_are_read() -> None:
    """Of CPython 3.11: a collection may let the other thread go on, whose frames then end while they are read."""
    found: list[str] = []

    def heard(phase: str, info: dict[str, int]) -> None:
        if threading.current_thread().name != "loop-watch":
            return
        frame = sys._getframe(1)
        if frame.f_code.co_name in {"_outermost_first", "_below_loop"}:
            found.append(frame.f_code.co_name)

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            spin(4 * HOLD_S)

    thresholds = gc.get_threshold()
    gc.callbacks.append(heard)
    gc.set_threshold(1)
    try:
        assert held_by(lambda: deep(100))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(heard)
    assert not found
    assert gc.isenabled()
