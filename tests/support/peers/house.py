"""A gateway of somebody's own, as a process of its own: it takes signed JSON, knows keys, and keeps books.

It speaks in a form of its own, which `SETTINGS` describes; its books are the oracle.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "house-key"
ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "charge.path": "/sales",
    "authorize.path": "/holds",
    "capture.path": "/holds/{parent_ref}/take",
    "void.path": "/holds/{parent_ref}/free",
    "refund.path": "/sales/{parent_ref}/back",
    "lookup.path": "/orders/{merchant_ref}",
    "amount": "decimal",
    "idempotency_header": "X-Request-Key",
    "request.amount": "/sum/value",
    "request.currency": "/sum/unit",
    "request.merchant_ref": "/ours",
    "request.token": "/card",
    "request.parent_ref": "",
    "request.operation": "",
    "answer.status": "/state",
    "answer.id": "/number",
    "answer.amount": "/sum/value",
    "answer.currency": "/sum/unit",
    "answer.merchant_ref": "/ours",
    "answer.code": "/why/code",
    "answer.message": "/why/text",
    "status.done": "OK",
    "status.refused": "NO",
    "status.pending": "LATER",
    "code.51": "declined/insufficient_funds/elsewhere",
    "webhook.scheme": "standard",
    "webhook.id": "/event",
    "webhook.merchant_ref": "/about/ours",
}


class Books:
    """What it has done. Only a key tells it that an order came before: our references are names to it, and no more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.orders: dict[str, dict[str, Any]] = {}
        self.first_of: dict[str, str] = {}
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.bodies: dict[str, tuple[str, str, dict[str, Any]]] = {}
        self.conflicts: list[str] = []

    def take(self, key: str, kind: str, parent: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Carry an order out, once for each key."""
        with self.lock:
            if self.bodies.setdefault(key, (kind, parent, body)) != (kind, parent, body):
                self.conflicts.append(key)
            if key not in self.answers:
                self.answers[key] = self._taken(kind, parent, body)
            return self.answers[key]

    def _taken(self, kind: str, parent: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        why = self._why_not(kind, parent, body)
        order = {
            "state": "NO" if why else "OK",
            "number": len(self.orders) + 1,
            "ours": body["ours"],
            "sum": body["sum"],
        }
        if why:
            order["why"] = {"code": why, "text": f"reason {why}"}
        root = self.orders[parent]["root"] if parent in self.orders else ""
        number = str(order["number"])
        self.orders[number] = {
            "answer": order,
            "kind": kind,
            "parent": parent,
            "root": root or body["ours"],
            "closes": body.get("closes", False),
        }
        self.first_of.setdefault(body["ours"], number)
        return (402 if why else 201), order

    def _why_not(self, kind: str, parent: str, body: dict[str, Any]) -> str:
        if kind in ("sales", "holds"):
            return {"good": "", "poor": "51"}.get(body.get("card", ""), "14")
        followed = self.orders.get(parent)
        if followed is None or followed["answer"]["state"] != "OK":
            return "25"
        after = [
            each
            for each in self.orders.values()
            if each["parent"] == parent and each["answer"]["state"] == "OK"
        ]
        left = _cents(followed["answer"]) - sum(_cents(each["answer"]) for each in after)
        if any(each["closes"] or each["kind"] == "free" for each in after):
            left = 0
        return "" if _cents(body) <= left else "13"

    def net_minor(self) -> dict[str, int]:
        """Return what is charged and not given back, by the reference of what took it."""
        sign = {"sales": 1, "take": 1, "back": -1}
        net: Counter[str] = Counter()
        with self.lock:
            for order in self.orders.values():
                if order["answer"]["state"] == "OK":
                    net[order["root"]] += sign.get(order["kind"], 0) * _cents(order["answer"])
        return dict(net)


def _cents(order: dict[str, Any]) -> int:
    whole, _, cents = order["sum"]["value"].partition(".")
    return int(whole) * 100 + int(cents or "0")


class _Handler(BaseHTTPRequestHandler):
    books = Books()

    def do_GET(self) -> None:
        if self.path == "/books":
            return self._answer(200, self.books.net_minor())
        if self.path == "/conflicts":
            return self._answer(200, self.books.conflicts)
        if not self._is_signed(b""):
            return self._answer(401, {})
        ours = self.path.removeprefix("/orders/")
        order = self.books.orders.get(self.books.first_of.get(ours, ""))
        return self._answer(200, order["answer"]) if order else self._answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_signed(body):
            return self._answer(401, {})
        parts = self.path.strip("/").split("/")
        kind, parent = (parts[2], parts[1]) if len(parts) == 3 else (parts[0], "")
        key = self.headers["X-Request-Key"]
        return self._answer(*self.books.take(key, kind, parent, json.loads(body)))

    def _is_signed(self, body: bytes) -> bool:
        stamp, _, given = self.headers.get("Tollmesh-Signature", "").partition(",v1=")
        signed = f"{stamp.removeprefix('t=')}.{self.command}.{self.path}.".encode() + body
        return hmac.compare_digest(
            hmac.digest(KEY.encode(), signed, hashlib.sha256).hex().encode(), given.encode()
        )

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class House:
    """A running gateway."""

    port: int

    def net_minor(self) -> Counter[str]:
        """Return what its books say is charged and not given back, by the reference of what took it."""
        return Counter(self._told("books"))

    def conflicts(self) -> list[str]:
        """Return keys that came with more than one order."""
        return list(self._told("conflicts"))

    def _told(self, what: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/{what}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # ours
            return json.load(answer)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """Run a gateway with nothing in its books."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.peers.house"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout is not None
        yield House(int(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def main() -> None:
    """Serve until whoever started it goes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()


if __name__ == "__main__":
    main()
