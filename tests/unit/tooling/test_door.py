"""Programs of a shell that run in the nursery are, for the shell, what `python -m` would be."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.processes.forked import program

GONE_WITHIN_S = 30.0


def test_it_reads_prints_and_ends_as_the_module_does() -> None:
    pretty = program("json.tool")
    good = subprocess.run([pretty], input=b'{"a": [1]}', capture_output=True, check=False)
    assert (good.returncode, b"".join(good.stdout.split()), good.stderr) == (0, b'{"a":[1]}', b"")
    bad = subprocess.run([pretty, "missing.json"], capture_output=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, b"")
    assert b"missing.json" in bad.stderr


def test_it_has_its_callers_folder_arguments_and_environment(tmp_path: Path) -> None:
    timed = program("timeit")
    says = "import os, time; print(os.getcwd(), os.environ['SAID'], 'PATH' in os.environ, time.tzname[0], 'ü')"
    shown = subprocess.run(
        [timed, "-n", "1", "-r", "1", says],
        cwd=tmp_path,
        env={"SAID": "yes", "TZ": "Asia/Tokyo"},
        capture_output=True,
        check=True,
    )
    assert shown.stdout.decode().splitlines()[0] == f"{tmp_path} yes False JST ü"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_both(number: signal.Signals) -> None:
    serve = program("http.server")
    with subprocess.Popen([serve, "0"], stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        port = re.search(r"port (\d+)", served.stdout.readline())
        assert port
        served.send_signal(number)
        assert served.wait(GONE_WITHIN_S) == -number
        give_up_at = time.monotonic() + GONE_WITHIN_S
        while _listens(int(port[1])):
            assert time.monotonic() < give_up_at
            time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0
