"""`tollmesh completion bash|zsh|fish`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from services.cli.output import say


class Shell(StrEnum):
    """Shells that can complete commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="the shell that will read it")]) -> None:
    """Print a script that completes commands and options.

    bash: tollmesh completion bash > ~/.local/share/bash-completion/completions/tollmesh

    zsh: tollmesh completion zsh > a file _tollmesh in a folder of $fpath

    fish: tollmesh completion fish > ~/.config/fish/completions/tollmesh.fish
    """
    script = get_completion_script(
        prog_name="tollmesh", complete_var="_TOLLMESH_COMPLETE", shell=shell.value
    )
    for line in script.splitlines():
        say(line)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(completion)
