"""`curl`, for the journeys that a reader of the README would make with it.

Machines without curl are served by this file itself, which understands the few options that the journeys
use: no journey is skipped.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.http.rest import Reply

REPOSITORY = Path(__file__).parents[3]
ANSWER_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Curl:
    """Calls REST with curl.

    Attributes:
        url: of the facade.
        key: API key; empty for none.
        folder: where bodies are laid down for curl to send.
    """

    url: str
    key: str
    folder: Path

    def __call__(self, method: str, path: str, body: bytes | None = None, *headers: str) -> Reply:
        """Make one call; `headers` read `Name: value`."""
        # Without `Expect:` curl would wait for a 100 before it sends a large body.
        sent = [*headers, "Expect:"]
        if self.key:
            sent.append(f"Authorization: Bearer {self.key}")
        arguments = ["--silent", "--show-error", "--include", "--request", method]
        for header in sent:
            arguments += ["--header", header]
        if body is not None:
            file = self.folder / "body"
            file.write_bytes(body)
            arguments += ["--data-binary", f"@{file}"]
            if not any(header.lower().startswith("content-type:") for header in headers):
                arguments += [
                    "--header",
                    "Content-Type: application/json",
                ]  # else curl says it is a form
        run = subprocess.run(
            [*program(), *arguments, f"{self.url}{path}"],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
        assert run.returncode == 0, run.stderr.decode()
        return parse(run.stdout)


def tenant_key(call: Curl, tenant: str) -> str:
    """Make a key of another tenant, as an operator does."""
    body = {"request_id": str(uuid.uuid4()), "name": "j", "scopes": ["*"], "tenant_id": tenant}
    made = call("POST", "/v1/access/keys", json.dumps(body).encode())
    assert made.status == 201, made.body
    return str(made.json()["secret"])


def program() -> list[str]:
    """The command that is curl here."""
    found = shutil.which("curl")
    return [found] if found else [sys.executable, "-m", "tests.support.http.curl"]


def parse(output: bytes) -> Reply:
    """Read what `--include` prints: head, blank line, body."""
    head, _, body = output.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return Reply(int(status.split()[1]), {name.lower(): text for name, _, text in pairs}, body)


def main() -> None:
    """Do one call and print it as curl does with `--include`."""
    parser = argparse.ArgumentParser()
    for flag in ("--silent", "--show-error", "--include"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--request", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--data-binary")
    parser.add_argument("url")
    wanted = parser.parse_args()
    target = urlsplit(wanted.url)
    headers = dict(line.split(": ", 1) for line in wanted.header if ": " in line)
    body = Path(wanted.data_binary.removeprefix("@")).read_bytes() if wanted.data_binary else None
    connection = http.client.HTTPConnection(target.netloc, timeout=ANSWER_WITHIN_S)
    path = target.path + (f"?{target.query}" if target.query else "")
    connection.request(wanted.request, path, body, headers)
    answer = connection.getresponse()
    head = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    head += [f"{name}: {value}" for name, value in answer.getheaders()]
    sys.stdout.buffer.write("\r\n".join([*head, "", ""]).encode() + answer.read())


if __name__ == "__main__":
    main()
