"""Sorts any number of lines in bounded memory: runs in files without a name, merged as they are read."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from services.cli.output import no_room

RUN_LINES = 100_000
RUN_BYTES = 32 * 1024 * 1024
RUNS_MAX = 64
"""Runs of one size; as many become one of the next, so that few files are open and each line is written a few times."""
_BUFFER_BYTES = 256 * 1024


class Sorter:
    """Takes lines, none of which has a line feed, and gives them back in the order of their bytes, repeats included.

    Use as a context manager.
    """

    def __init__(self, run_lines: int = RUN_LINES, runs_max: int = RUNS_MAX) -> None:
        self._run_lines, self._runs_max = run_lines, runs_max
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._levels: list[list[IO[bytes]]] = []
        self.count = 0

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        for level in self._levels:
            _close(level)

    def add(self, line: bytes) -> None:
        """Take a line.

        Raises:
            CliError: there is no room for what memory does not hold.
        """
        self._held.append(line)
        self._held_bytes += len(line)
        self.count += 1
        if len(self._held) >= self._run_lines or self._held_bytes >= RUN_BYTES:
            self._held.sort()
            self._keep(0, self._held)
            self._held, self._held_bytes = [], 0

    def lines(self) -> Iterator[bytes]:
        """Give the lines in order; again from the first each time, one time after the other."""
        self._held.sort()
        runs = [run for level in self._levels for run in level]
        return heapq.merge(*map(_read, runs), self._held)

    def _keep(self, level: int, lines: Iterable[bytes]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(_written(lines))
        if len(runs) == self._runs_max:
            self._levels[level] = []
            self._keep(level + 1, heapq.merge(*map(_read, runs)))
            _close(runs)


def _written(lines: Iterable[bytes]) -> IO[bytes]:
    try:
        file = tempfile.TemporaryFile(buffering=_BUFFER_BYTES)  # noqa: SIM115 - closed with its sorter
        for line in lines:
            file.write(line)
            file.write(b"\n")
        file.flush()
    except OSError as error:
        raise no_room(error) from error
    return file


def _read(run: IO[bytes]) -> Iterator[bytes]:
    run.seek(0)
    for line in run:
        yield line[:-1]


def _close(runs: Iterable[IO[bytes]]) -> None:
    for run in runs:
        run.close()
