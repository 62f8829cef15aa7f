"""`tollmesh profiles add|list|use|remove|show`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.cli import profiles as store
from services.cli.client import Session, check
from services.cli.documents import read_bytes
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption, note, print_json, print_table, say
from services.cli.profiles import KeyPlace, Profile

profiles = typer.Typer(
    help="Names for several meshes, with their addresses and keys.", no_args_is_help=True
)

_KEY_BYTES_MAX = 4096
_PREFIX_CHARS = 8


class Keep(StrEnum):
    """Where `add` keeps the key."""

    AUTO = "auto"
    KEYRING = "keyring"
    FILE = "file"


@profiles.command("add")
def add(
    name: Annotated[str, typer.Argument(help="letters, digits and . _ -")],
    address: Annotated[str, typer.Option("--address", help="gRPC address, host:port")],
    rest: Annotated[
        str, typer.Option("--rest", help="base URL of its REST facade, for `tollmesh api`")
    ] = "",
    key_file: Annotated[
        str,
        typer.Option(
            "--key-file",
            help="file with the API key, - for standard input; else TOLLMESH_API_KEY, or a terminal is asked",
        ),
    ] = "",
    keep_in: Annotated[
        Keep,
        typer.Option(
            help="where the key is kept: the system's keyring, or a file that only you can read; "
            "auto is the keyring if there is one"
        ),
    ] = Keep.AUTO,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace a profile of the same name")
    ] = False,
    use_it: Annotated[bool, typer.Option("--use", help="use it from now on")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Add a mesh. Its key never stands among the arguments, which every user of the machine can read."""
    if rest and not rest.startswith(("http://", "https://")):
        raise CliError(f"--rest is {rest!r}: write http://host:port", exit_code=EXIT_USAGE)
    key = _key(key_file)
    check(Session(address, key), "give --address host:port of a gRPC server, e.g. 127.0.0.1:7443")
    place = None if keep_in is Keep.AUTO else KeyPlace(keep_in.value)
    stored = store.add(Profile(name, address, rest.rstrip("/")), key, place, overwrite=replace)
    if use_it:
        store.use(name)
    if output is Format.JSON:
        print_json(_plain(stored, store.read().current))
    else:
        where = {
            KeyPlace.KEYRING: "its key is in the system's keyring",
            KeyPlace.FILE: f"its key is in {store.folder() / store.FILE}, which only you can read",
            KeyPlace.NONE: "it has no key",
        }[stored.key_place]
        say(f"profile {name} added: {address}; {where}")


def _key(file: str) -> str:
    if file:
        return read_bytes(file, _KEY_BYTES_MAX).decode(errors="replace").strip()
    if given := os.environ.get("TOLLMESH_API_KEY"):
        return given
    if sys.stdin.isatty():
        return str(typer.prompt("API key (empty for none)", default="", hide_input=True, err=True))
    return ""


@profiles.command("list")
def list_(output: OutputOption = Format.TABLE) -> None:
    """List the profiles; `*` marks the one in use."""
    found = store.read()
    if output is Format.JSON:
        print_json({"profiles": [_plain(each, found.current) for each in found.by_name.values()]})
        return
    rows = [
        (
            "*" if each.name == found.current else "",
            each.name,
            each.grpc,
            each.rest or "-",
            each.key_place.value,
        )
        for each in found.by_name.values()
    ]
    print_table("", ("", "profile", "gRPC", "REST", "key in"), rows)


@profiles.command("use")
def use(
    name: Annotated[
        str, typer.Argument(help="profile; leave it out with --none", autocompletion=store.complete)
    ] = "",
    none: Annotated[bool, typer.Option("--none", help="use no profile")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Use a profile where neither the environment nor --profile names a mesh and none runs in this directory."""
    if bool(name) == none:
        raise CliError("give a profile, or --none", exit_code=EXIT_USAGE)
    store.use(name)
    session, why = Session.located()
    if output is Format.JSON:
        print_json({"current": name, "in_effect": {"grpc": session.grpc, "from": why}})
        return
    say(f"profile {name} is in use" if name else "no profile is in use")
    if name and session.profile != name:
        note(f"but here commands go to {session.grpc}, by {why}, which stands above it")


@profiles.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="profile", autocompletion=store.complete)],
    output: OutputOption = Format.TABLE,
) -> None:
    """Forget a profile and its key. The key itself works on: `tollmesh keys revoke` ends it."""
    store.remove(name)
    if output is Format.JSON:
        print_json({})
    else:
        say(f"profile {name} removed")


@profiles.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="profile; without it: what commands use here, and why",
            autocompletion=store.complete,
        ),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a profile, or which mesh the commands talk to here."""
    if name:
        found = store.read()
        plain = _plain(found.get(name), found.current)
    else:
        session, why = Session.located()
        key = f"{session.api_key[:_PREFIX_CHARS]}…" if session.api_key else ""
        plain = {"grpc": session.grpc, "rest": session.rest, "api_key": key, "from": why}
    if output is Format.JSON:
        print_json(plain)
        return
    for title, value in plain.items():
        say(f"{title:<10} {value if value != '' else '-'}")


def _plain(profile: Profile, current: str) -> dict[str, Any]:
    return {
        "name": profile.name,
        "grpc": profile.grpc,
        "rest": profile.rest,
        "key_place": profile.key_place.value,
        "current": profile.name == current,
    }


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(profiles, name="profiles")
