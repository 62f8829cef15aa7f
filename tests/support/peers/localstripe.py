"""localstripe, a stand-in for Stripe's API that has no idempotency keys: the hostile peer.

It is GPL: a process of its own in an environment of its own, never imported.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "1.15.10"
ROOT = Path(__file__).resolve().parents[3]
KEY = "sk_test_peer"


@dataclass(frozen=True, slots=True)
class LocalStripe:
    """A running peer, and its own lists: the oracle."""

    port: int

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind, `payment_intents` or `refunds`."""
        found: list[dict[str, Any]] = []
        while True:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            url = f"http://127.0.0.1:{self.port}/v1/{kind}?limit=100{after}"
            login = base64.b64encode(f"{KEY}:".encode()).decode()
            request = urllib.request.Request(
                url, headers={"Authorization": f"Basic {login}"}
            )  # ours
            with urllib.request.urlopen(request, timeout=30) as answer:  # ours
                page = json.load(answer)
            found += page["data"]
            if not page["has_more"]:
                return found

    def net_minor(self) -> Counter[str]:
        """Return what is charged and not given back, by the reference of what took it."""
        net: Counter[str] = Counter()
        for intent in self.objects("payment_intents"):
            charge = intent["latest_charge"]
            if charge and charge["status"] == "succeeded" and charge["captured"]:
                net[intent["metadata"]["merchant_ref"]] += (
                    charge["amount"] - charge["amount_refunded"]
                )
        return net


def installed() -> Path:
    """Return the interpreter that has it; installs it once a checkout."""
    home = ROOT / "build" / f"localstripe-{VERSION}"
    python = home / "bin" / "python"
    home.parent.mkdir(exist_ok=True)
    with Path(f"{home}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            uv = Path(sys.executable).parent / "uv"
            subprocess.run(
                [uv, "venv", "--clear", "-q", "--python", sys.executable, home], check=True
            )
            wanted = f"localstripe=={VERSION}"
            subprocess.run([uv, "pip", "install", "-q", "--python", python, wanted], check=True)
            (home / "installed").touch()
    return python


@asynccontextmanager
async def localstripe() -> AsyncIterator[LocalStripe]:
    """Run a peer with nothing in it."""
    python = await asyncio.to_thread(installed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        python,
        *("-m", "localstripe", "--port", str(port), "--from-scratch"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        await _answers(port, process)
        yield LocalStripe(port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    for _ in range(600):
        assert process.returncode is None, "localstripe ended at its start"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError("localstripe does not answer")
