"""`tollmesh api` by reflection and over REST, and `tollmesh profiles` with a mesh behind them."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from services.cli.errors import EXIT_DENIED, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.integration.cli.test_commands import AT
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def account(tollmesh: Tollmesh) -> str:
    """An account of the test's own."""
    made = f"api:{uuid4()}"
    account = {"account_id": made, "currency_code": "USD", "type": "ACCOUNT_TYPE_ASSET"}
    done = tollmesh("api", "ledger/CreateAccounts", json.dumps({"accounts": [account]}))
    assert done.exit_code == 0, done.err
    return made


def test_any_rpc_is_called_by_what_the_server_says_of_itself(
    tollmesh: Tollmesh, account: str, tmp_path: Path
) -> None:
    wanted = {"account_id": account}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(wanted))
    spellings = (
        ("payments.ledger.v1.LedgerService/GetAccount", json.dumps(wanted)),
        ("LedgerService.GetAccount", f"@{file}"),
        ("ledger/getaccount", "-"),
    )
    for target, body in spellings:
        # An editor may have put a byte order mark in front.
        done = tollmesh("api", target, body, stdin=b"\xef\xbb\xbf" + file.read_bytes())
        assert done.exit_code == 0, done.err
        assert done.json()["account"]["account_id"] == account
    assert "payments.ledger.v1.LedgerService" in tollmesh("api", "list").out.split()
    assert "payments.ledger.v1.LedgerService/ListEntries" in tollmesh("api", "list", "ledger").out
    described = tollmesh("api", "describe", "ledger/PostTransfers").out
    assert "transfers   repeated payments.ledger.v1.Transfer" in described
    assert "ACCOUNT_TYPE_ASSET" in tollmesh("api", "describe", "payments.ledger.v1.AccountType").out


def test_streams_are_printed_a_line_each(tollmesh: Tollmesh, account: str) -> None:
    event = {"request_id": account, "org_id": "o", "sku": "none", "quantity": "1", "time": AT}
    batch = {"batch": {"events": [event]}}
    both = f"{json.dumps(batch)}\n{json.dumps(batch)}\n".encode()
    sent = tollmesh("api", "metering/StreamEvents", "-", stdin=both)
    assert sent.exit_code == 0, sent.err
    answers = [json.loads(line)["result"] for line in sent.out.splitlines()]
    assert [answer["rejected"] for answer in answers] == [1, 1]


def test_a_request_id_is_made_and_said(tollmesh: Tollmesh) -> None:
    key = {"name": "by api", "scopes": ["ledger:read"]}
    made = tollmesh("api", "access/CreateApiKey", json.dumps(key))
    assert made.exit_code == 0, made.err
    request_id = made.err.split("request_id ")[1].split(":")[0]
    again = tollmesh("api", "access/CreateApiKey", json.dumps({**key, "request_id": request_id}))
    assert again.json()["api_key"]["key_id"] == made.json()["api_key"]["key_id"]
    assert again.err == ""


@pytest.mark.parametrize(
    ("arguments", "told", "exit_code"),
    [
        (("ledger/Nothing",), "has no RPC 'Nothing'", EXIT_USAGE),
        (("ledgers/GetAccount",), "did you mean", EXIT_USAGE),
        (("GetAccount",), "names no RPC", EXIT_USAGE),
        (("events/ListEvents", '{"page_siz": 1}'), "page_siz", EXIT_USAGE),
        (("ledger/GetAccount", "{"), "is not valid JSON", EXIT_USAGE),
        (("ledger/GetAccount", '{"account_id": "none"}'), "NOT_FOUND", EXIT_REFUSED),
        (("describe", "payments.Nothing"), "knows no service", EXIT_USAGE),
        (("GET", "v1"), "needs a path", EXIT_USAGE),
        (("GET", "/v1/no where"), "escape", EXIT_USAGE),
        (("GET", "/v1/nowhere"), "HTTP 404", EXIT_REFUSED),
        (("ledger/GetAccount", "{}", "{}"), "too many", EXIT_USAGE),
        (("GET", "/v1/ledger/accounts", "-H", "odd"), "is not name: value", EXIT_USAGE),
    ],
)
def test_what_goes_wrong_is_said(
    tollmesh: Tollmesh, arguments: tuple[str, ...], told: str, exit_code: int
) -> None:
    done = tollmesh("api", *arguments)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert told in done.err


def test_routes_of_the_facade_are_called(
    tollmesh: Tollmesh, account: str, mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tollmesh("api", "GET", f"/v1/ledger/accounts/{account}")
    assert found.exit_code == 0, found.err
    assert found.json()["account_id"] == account
    made = {"account_id": f"{account}-2", "currency_code": "USD", "type": "ACCOUNT_TYPE_ASSET"}
    posted = tollmesh(
        *("api", "post", "/v1/ledger/accounts", json.dumps({"accounts": [made]})),
        *("--header", "X-Request-Id: from-a-test"),
    )
    assert posted.exit_code == 0, posted.err
    assert posted.json()["results"][0]["account_id"] == f"{account}-2"
    refused = tollmesh("api", "POST", "/v1/ledger/accounts", '{"accounts": []}')
    assert (refused.exit_code, "HTTP 400" in refused.err) == (EXIT_REFUSED, True)
    assert "openapi" in tollmesh("api", "GET", "/openapi.json").json()
    monkeypatch.setenv("TOLLMESH_API_KEY", "tmk_nobody")
    assert tollmesh("api", "GET", "/v1/ledger/accounts").exit_code == EXIT_DENIED
    monkeypatch.setenv("TOLLMESH_REST_URL", "http://127.0.0.1:1")
    gone = tollmesh("api", "GET", "/v1/ledger/accounts")
    assert (gone.exit_code, "no REST facade answers" in gone.err) == (EXIT_UNAVAILABLE, True)
    monkeypatch.delenv("TOLLMESH_REST_URL")
    unknown = tollmesh("api", "GET", "/v1/ledger/accounts")
    assert (unknown.exit_code, "TOLLMESH_REST_URL" in unknown.err) == (EXIT_USAGE, True)


def test_a_profile_names_a_mesh(
    tollmesh: Tollmesh, mesh: MeshProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLMESH_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    address, key = mesh.ready["grpc"], mesh.ready["api_key"]
    for name in ("ADDRESS", "API_KEY", "REST_URL", "DATA_DIR"):
        monkeypatch.delenv(f"TOLLMESH_{name}", raising=False)
    kept = ("--key-file", "-", "--keep-in", "file")
    made = tollmesh("profiles", "add", "here", "--address", address, *kept, stdin=key.encode())
    assert made.exit_code == 0, made.err
    assert key not in made.out
    assert tollmesh("--profile", "here", "charges").exit_code == 0
    assert tollmesh("charges").exit_code == EXIT_UNAVAILABLE
    assert tollmesh("profiles", "use", "here", "-o", "json").json()["current"] == "here"
    assert tollmesh("charges").exit_code == 0
    shown = tollmesh("profiles", "show", "-o", "json").json()
    assert (shown["grpc"], shown["from"]) == (address, "profile here")
    assert key not in tollmesh("profiles", "show").out
    monkeypatch.setenv("TOLLMESH_PROFILE", "none")
    unknown = tollmesh("charges")
    assert (unknown.exit_code, "there are: here" in unknown.err) == (EXIT_USAGE, True)
    monkeypatch.delenv("TOLLMESH_PROFILE")
    listed = tollmesh("profiles", "list", "-o", "json").json()["profiles"]
    assert listed == [
        {"name": "here", "grpc": address, "rest": "", "key_place": "file", "current": True}
    ]
    assert tollmesh("profiles", "remove", "here").exit_code == 0
    assert tollmesh("profiles", "list", "-o", "json").json() == {"profiles": []}
    assert tollmesh("profiles", "use").exit_code == EXIT_USAGE
    assert tollmesh("profiles", "add", "x", "--address", "nowhere").exit_code == EXIT_USAGE
