"""`tollmesh keys create|list|revoke|rotate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from time import sleep
from typing import Annotated
from uuid import uuid4

import typer
from payments.access.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc

from services.cli import durations, lists
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    YesOption,
    as_dict,
    confirm,
    note,
    print_json,
    say,
    when,
)

keys = typer.Typer(help="API keys: create, list, rotate, revoke.", no_args_is_help=True)

OVERLAP_MAX = timedelta(days=1)
_COLUMNS = ("key", "prefix", "name", "scopes", "created at", "created with", "until")
_DAY_SECONDS = 86_400


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="what the key is for")],
    scope: Annotated[list[str], typer.Option(help="may be repeated; * grants every scope")],
    tenant: Annotated[str, typer.Option(help="a tenant other than your own (operators only)")] = "",
    days: Annotated[
        int, typer.Option(min=0, max=3650, help="days until it expires; 0 for never")
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Create an API key. It is shown only once."""
    request = access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name=name, scopes=scope, tenant_id=tenant
    )
    if days:
        request.lifetime.seconds = days * _DAY_SECONDS
    with Client(Session.find()) as client:
        response = client.call(_stub(client).CreateApiKey, request)
    if output is Format.JSON:
        print_json(response)
        return
    _show_secret(response)


@keys.command("list")
def list_(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List the tenant's API keys, in the order of their creation."""
    with Client(Session.find()) as client:
        lists.show(output, "api_keys", _keys(client), _COLUMNS, _row, limit=limit)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="id of the key, key_…")],
    keep_made: Annotated[
        bool,
        typer.Option(
            "--keep-made",
            help="keep the keys that were created with it (for rotation; not after a leak)",
        ),
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Revoke a key and the keys created with it, for good. Within a second every process of the mesh rejects them."""
    with_it = "" if keep_made else " and every key that was created with it"
    confirm(f"This revokes {key_id}{with_it}, for good", yes=yes)
    with Client(Session.find()) as client:
        revoked = _revoked(client, key_id, keep_made=keep_made)
    if output is Format.JSON:
        print_json(access_service_pb2.RevokeApiKeyResponse(api_key=revoked))
        return
    with_it = f", and {revoked.keys_ended} created with it" if revoked.keys_ended else ""
    say(f"{revoked.key_id} revoked{with_it}")


@keys.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(help="id of the key that is replaced, key_…")],
    overlap: Annotated[
        str,
        typer.Option(
            help="how long the old key works on, up to 24h; the command waits for so long, then revokes it: 90s, 30m"
        ),
    ] = "0",
    days: Annotated[
        int,
        typer.Option(
            min=0,
            max=3650,
            help="days until the new key expires; as long as the old one by default",
        ),
    ] = 0,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replace a key: create one with its name and scopes, then revoke it. The new key is shown only once.

    Keys that were created with the old one stay. After a leak use `keys revoke` instead, which ends those too, even of
    a key that was rotated before. The key that this command itself uses, and those that it comes from, have to be
    replaced with another key.
    """
    wait = durations.parse(overlap)
    if wait > OVERLAP_MAX:
        raise CliError(
            f"--overlap {overlap} is longer than a day",
            "use `keys create` now, and `keys revoke --keep-made` when nobody uses the old key any more",
            exit_code=EXIT_USAGE,
        )
    with Client(Session.find()) as client:
        old = _key_to_replace(client, key_id)
        confirm(f"This creates a successor of {key_id} ({old.name}) and revokes it", yes=yes)
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name=old.name, scopes=old.scopes
        )
        if days:
            request.lifetime.seconds = days * _DAY_SECONDS
        elif old.HasField("expires_at"):
            request.lifetime.seconds = max(60, old.expires_at.seconds - old.created_at.seconds)
        response = client.call(_stub(client).CreateApiKey, request)
        # Shown before anything else can fail: nobody can ask for it again.
        if output is Format.JSON:
            print_json(as_dict(response) | {"replaces_key_id": key_id})
        else:
            _show_secret(response)
        _retire(client, key_id, wait)
    if output is Format.TABLE:
        say(f"{key_id} revoked")


def _retire(client: Client, key_id: str, wait: timedelta) -> None:
    by_hand = f"tollmesh keys revoke {key_id} --keep-made"
    try:
        if wait:
            note(
                f"the old key works on for {wait}, then it is revoked. To revoke it yourself: {by_hand}"
            )
            sleep(wait.total_seconds())
        _revoked(client, key_id, keep_made=True)
    except KeyboardInterrupt:
        note(f"the new key works, and the old one too until you revoke it: {by_hand}")
        raise
    except CliError as error:
        error.hints = [
            *error.hints,
            f"the new key works, and the old one may too; to revoke it: {by_hand}",
        ]
        raise


def _key_to_replace(client: Client, key_id: str) -> access_pb2.ApiKey:
    """Return a key that works and that the key of this command may replace. Raises CliError."""
    found = {key.key_id: key for key in _keys(client) if not key.HasField("revoked_at")}
    old = found.get(key_id)
    if old is None:
        raise CliError(
            f"there is no key {key_id} that works", "`tollmesh keys list` shows the tenant's keys"
        )
    if key_id in _line_of(found, client.session.api_key):
        raise CliError(
            f"{key_id} is the key that this command uses, or that key was created with it: its successor would end too",
            "set TOLLMESH_API_KEY to another key, such as the one that `tollmesh up` printed",
        )
    return old


def _line_of(found: Mapping[str, access_pb2.ApiKey], secret: str) -> Iterator[str]:
    """Give the id of a key, of the key that created it, and so on, as far as they are the tenant's."""
    own = (key for key in found.values() if secret.startswith(f"{key.prefix}_"))
    key = next(own, None)
    while key is not None:
        yield key.key_id
        key = found.get(key.parent_key_id)


def _stub(client: Client) -> access_service_pb2_grpc.AccessServiceStub:
    return client.stub(access_service_pb2_grpc.AccessServiceStub)


def _keys(client: Client) -> Iterator[access_pb2.ApiKey]:
    request = access_service_pb2.ListApiKeysRequest()
    return lists.pages(client, _stub(client).ListApiKeys, request, "api_keys")


def _revoked(client: Client, key_id: str, *, keep_made: bool) -> access_pb2.ApiKey:
    request = access_service_pb2.RevokeApiKeyRequest(
        request_id=str(uuid4()), key_id=key_id, keep_made_keys=keep_made
    )
    return client.call(_stub(client).RevokeApiKey, request).api_key


def _show_secret(response: access_service_pb2.CreateApiKeyResponse) -> None:
    say(response.secret)
    made = response.api_key
    say(f"key {made.key_id} of tenant {made.tenant_id} (shown only once)", style="dim")


def _row(key: access_pb2.ApiKey) -> tuple[str, ...]:
    made = (when(key.created_at), key.parent_key_id or "-", _until(key))
    return key.key_id, key.prefix, key.name, " ".join(key.scopes), *made


def _until(key: access_pb2.ApiKey) -> str:
    if not key.HasField("revoked_at"):
        return when(key.expires_at) or "works"
    return f"revoked with {key.revoked_with_key_id}" if key.revoked_with_key_id else "revoked"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")
