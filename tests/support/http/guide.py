"""Plays the console blocks of a guide on a running mesh: what a page shows is what the commands print.

A block is fenced as ```console. A line that starts with `$ ` is a command, lines that start with `> ` go on with it,
and what follows up to the next command is what it printed. A block fenced as ```console settles shows a state that
the mesh reaches by itself within seconds and then keeps: its commands are asked again until they print it.

`python -m tests.support.http.guide docs/guides/events.md` runs a page and writes what was printed into it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.jetstream import nats
from tests.support.mesh.up import Running, tollmesh_up
from tests.support.processes.forked import program

# Of `tollmesh up`, for pages with webhooks.
ARGUMENTS = ("--webhook-allow", "127.0.0.1/32")
# Pages about meshes rather than about one: they start theirs.
STARTS_MESHES = frozenset({"jetstream", "spool"})

SETTLES_WITHIN_S = 30.0
# When a page is written: longer than three retries of a reaction take.
SETTLE_BEFORE_WRITING_S = 12.0
COMMAND_WITHIN_S = 60.0

_BLOCK = re.compile(r"^```console( settles)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_END = "guide-command-ended"

# What differs from run to run, the longest first; by then every space is a single one.
_VARIES = (
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "<ulid>"),
    (r"\b(whsec|whsk|whpk)_[A-Za-z0-9+/=]+", r"\1_<secret>"),
    (r"\btmk_[0-9a-f]{4,8}\b", "tmk_<prefix>"),
    (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.]+(Z|\+00:00)?", "<time>"),
    (r"\b[0-9]+(\.[0-9]+)? ?(ms|s|min)\b", "<duration>"),
    (r"\bNATS [0-9.]+", "NATS <version>"),
    (r"\b[0-9,]+/s\b", "<rate>"),
    (r"\busage snapshot [0-9:,]+", "usage snapshot <snapshot>"),
    (r"127\.0\.0\.1:[0-9]+", "<address>"),
    (r"(?<=\?after=)[\w-]+|(?<=Tollmesh-Next-Cursor: )[\w-]+", "<cursor>"),
    (r"(?<=\bid: )[\w-]{20,}|(?<=\"cursor\":\")[\w-]+|(?<=\"cursor\": \")[\w-]+", "<cursor>"),
    (r"\beyJ[A-Za-z0-9_=-]+|\b[A-Za-z0-9_-]{40,}={0,2}", "<token>"),
    (r"\"latency_ms\": \"[0-9]+\"", "<duration>"),
    # Place in the feed, which all pages share.
    (r"\"(sequence|position)\": ?\"?[0-9]+\"?", r'"\1":<position>'),
    # Status and milliseconds of an attempt.
    (r"│ ([0-9]{3}) │ [0-9]+ │", r"│ \1 │ <duration> │"),
    (r"[─━═]+", "<rule>"),
    # Go's JSON has a space here and there, another one in each build.
    (r"(?<=[,:]) (?=[\"\[{0-9])", ""),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page and what it prints.

    Attributes:
        command: as typed, without the prompts.
        printed: standard output and error, as shown.
        settles: the state comes by itself, within seconds.
    """

    command: str
    printed: str
    settles: bool


def steps(block: str, *, settles: bool) -> list[Step]:
    """Read the commands of a block. Raises ValueError when it starts with anything else."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], "", settles))
        elif not found:
            raise ValueError(f"a console block starts with a command, not {line!r}")
        elif (line.startswith("> ") or line == ">") and not found[-1].printed:
            found[-1] = replace(found[-1], command=f"{found[-1].command}\n{line[2:]}")
        else:
            found[-1] = replace(found[-1], printed=f"{found[-1].printed}{line}\n")
    return found


def plain(printed: str) -> str:
    """Blot out what differs from run to run, widths of columns included."""
    printed = "\n".join(" ".join(line.split()) for line in printed.splitlines()).strip()
    for pattern, name in _VARIES:
        printed = re.sub(pattern, name, printed)
    return printed


class Shell:
    """A shell in which one command sees what the one before left."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run a command and return what it printed.

        Raises:
            RuntimeError: it took too long, or ended the shell.
        """
        overdue = threading.Timer(COMMAND_WITHIN_S, self._end)
        overdue.start()
        try:
            return self._answer(command)
        finally:
            overdue.cancel()

    def _answer(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho {_END}\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            before, marker, _ = line.partition(_END)
            if before:
                lines.append(before if marker else line)
            if marker:
                return "".join(lines)
        raise RuntimeError(f"the shell ended, or had to be ended, in {command!r}: {''.join(lines)}")

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, and whatever it left in the background."""
        self._end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Stage:
    """Shells in which pages are played, beside one mesh for all of them."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self._folder = folder
        self._ends = ends
        # The command that is found first is the same, without its half a second of loading modules.
        programs = folder / "programs"
        programs.mkdir()
        (programs / "tollmesh").symlink_to(program("services.cli"))
        self._environment = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "320",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }
        self._mesh: Running | None = None

    @contextmanager
    def shell(self, page: Path, *, as_operator: bool = False) -> Iterator[Shell]:
        """Run a shell for a page, in a folder of its own, until the block ends.

        It finds the mesh, in a tenant of its own: what one page leaves behind shows on no other. `$REST` and
        `$TOLLMESH_API_KEY` are set. A page that starts meshes itself finds NATS servers instead.

        Args:
            page: what is played; its name is that of folder and tenant.
            as_operator: with the key that `tollmesh up` prints, in the tenant `default`.
        """
        work = self._folder / page.stem
        work.mkdir()
        if page.stem in STARTS_MESHES:
            url = self._ends.enter_context(nats.serving(work)).url
            found = {"TOLLMESH_SPOOL_URL" if page.stem == "spool" else "TOLLMESH_NATS_URL": url}
        else:
            found = self._access(None if as_operator else page.stem)
        shell = Shell(work, self._environment | {"HOME": str(work)} | found)
        try:
            yield shell
        finally:
            shell.close()

    def _access(self, tenant: str | None) -> dict[str, str]:
        data_dir = self._folder / "data"
        if self._mesh is None:
            self._mesh = self._ends.enter_context(tollmesh_up(data_dir, *ARGUMENTS))
        operator = {"TOLLMESH_DATA_DIR": str(data_dir), "TOLLMESH_API_KEY": self._mesh.api_key}
        if tenant is None:
            return operator | {"REST": self._mesh.rest}
        made = subprocess.run(
            f"tollmesh keys create guide --scope=* --tenant={tenant} -o json".split(),
            env=self._environment | operator,
            check=True,
            stdout=subprocess.PIPE,
        )
        key = json.loads(made.stdout)["secret"]
        return operator | {"TOLLMESH_API_KEY": key, "REST": self._mesh.rest}


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Give pages a stage until the block ends; its mesh starts with the first one that needs it."""
    with ExitStack() as ends:
        yield Stage(folder, ends)


@contextmanager
def playing(folder: Path) -> Iterator[Shell]:
    """Run a shell beside a mesh of its own, with the operator's key."""
    with stage(folder) as alone, alone.shell(Path("page"), as_operator=True) as shell:
        yield shell


def differences(page: str, shell: Shell) -> list[str]:
    """Run every command of a page and tell where it prints something else than is shown."""
    found = []
    for block in _BLOCK.finditer(page):
        for step in steps(block[2], settles=bool(block[1])):
            printed = _printed(shell, step)
            if plain(printed) != plain(step.printed):
                found.append(f"$ {step.command}\n--- shown\n{step.printed}--- printed\n{printed}")
    return found


def _printed(shell: Shell, step: Step) -> str:
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while True:
        printed = shell.run(step.command)
        settled = plain(printed) == plain(step.printed)
        if settled or not step.settles or time.monotonic() > give_up_at:
            return printed
        time.sleep(0.2)


def written(page: str, shell: Shell) -> str:
    """Return the page with what its commands print now."""

    def play(block: re.Match[str]) -> str:
        shown = []
        if block[1]:
            time.sleep(SETTLE_BEFORE_WRITING_S)
        for step in steps(block[2], settles=bool(block[1])):
            prompt = "\n> ".join(f"$ {step.command}".splitlines()).replace("\n> \n", "\n>\n")
            printed = "\n".join(line.rstrip() for line in shell.run(step.command).splitlines())
            shown.append(f"{prompt}\n{printed.strip(chr(10))}".rstrip())
        return "```console{}\n{}\n```".format(block[1] or "", "\n".join(shown))

    return _BLOCK.sub(play, page)


def main() -> None:
    """Write what is printed into pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, nargs="+")
    pages: list[Path] = parser.parse_args().pages
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as playing:
        for page in pages:
            with playing.shell(page) as shell:
                text = written(page.read_text(encoding="utf-8"), shell)
            page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
