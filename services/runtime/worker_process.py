"""The process behind `workers`: reads jobs from its standard input, writes answers to its standard output."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO

from services.runtime.errors import DomainError
from services.runtime.workers import (
    FRAME,
    MEMORY_BYTES_MAX,
    SLICE_SECONDS,
    Answers,
    Overrun,
    WorkerFault,
)

# Answers wait so long for others: each frame wakes the other process up.
_FLUSH_SECONDS = 0.002


def main() -> None:
    """Work until the other process closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    jobs = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # What prints by mistake must not end up between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Collections would walk every list of a large document again and again.
    gc.disable()
    while header := jobs.read(FRAME.size):
        (size,) = FRAME.unpack(header)
        _work(pickle.loads(jobs.read(size)), answers)  # noqa: S301 - from the process that started us
        gc.collect()


def _work(job: tuple[str, Any, list[Any], float, bool], answers: BinaryIO) -> None:
    name, shared, items, cpu_seconds, each = job
    function = _function(name)
    waiting: list[Any] = []
    flush_at = time.monotonic() + _FLUSH_SECONDS
    began = sent_at = time.process_time()
    for number, item in enumerate(items, start=1):
        # Nothing handles its signal, which therefore ends the process, be it in the midst of C or Rust.
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        waiting.append(_outcome(function, shared, item))
        signal.setitimer(signal.ITIMER_PROF, 0)
        now = time.process_time()
        goes_on = number < len(items) and now - began < SLICE_SECONDS
        if not goes_on or each or time.monotonic() >= flush_at:
            _send(Answers(waiting, now - sent_at, goes_on), answers)
            waiting, sent_at = [], now
            flush_at = time.monotonic() + _FLUSH_SECONDS
        if not goes_on:
            return


def _outcome(function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
    try:
        return function(shared, item)
    except DomainError as error:
        return error.with_traceback(None)
    except MemoryError:
        return Overrun()
    except Exception as error:
        return WorkerFault(f"{type(error).__name__}: {error}"[:1000])


def _send(found: Answers, answers: BinaryIO) -> None:
    packed = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
    data = memoryview(FRAME.pack(len(packed)) + packed)
    while data:
        data = data[answers.write(data) :]


@cache
def _function(name: str) -> Callable[[Any, Any], Any]:
    module, _, function = name.partition(":")
    found: Callable[[Any, Any], Any] = getattr(importlib.import_module(module), function)
    # What was imported stays: collections need not look at it.
    gc.freeze()
    return found


if __name__ == "__main__":
    main()
