"""Write docs/reference/settings.md from the settings classes, the commands and the facade's flags, or check it."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import SecretStr

from services.runtime.config import Settings
from tools import cli_page, pages
from tools.pages import cell

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/settings.md"
PREFIX = str(Settings.model_config["env_prefix"])

HEAD = """\
# Settings

<!-- Written by tools/settings_page.py from services/runtime/config.py, the commands, and services/gateway/main.go.
     `make generate` writes it again; `make lint` fails when it is stale. -->

All are read from the environment when a process starts. A value that cannot be read, or is out of its bounds, is named
and the process does not start.
"""

_UNITS = {
    "_ms": "milliseconds",
    "_seconds": "seconds",
    "_days": "days",
    "bytes_min": "bytes",
    "bytes_max": "bytes",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the page."""

    name: str
    meaning: str
    default: str = ""
    unit: str = ""
    bounds: str = ""

    def row(self) -> str:
        """Return it as Markdown."""
        cells = (f"`{self.name}`", cell(self.meaning), self.unit, self.default, self.bounds)
        return f"| {' | '.join(cells)} |\n"


# What is read where no settings class is.
OTHERS = (
    Setting(
        "TOLLMESH_ADDRESS",
        "gRPC address of the mesh, host:port; see [which mesh](cli.md#which-mesh)",
    ),
    Setting("TOLLMESH_API_KEY", "key of that mesh"),
    Setting("TOLLMESH_REST_URL", "base URL of its REST facade, for `tollmesh api METHOD PATH`"),
    Setting(
        "TOLLMESH_CONFIG_DIR",
        "where profiles are kept",
        "`tollmesh` in `$XDG_CONFIG_HOME`, else in `~/.config`",
    ),
    Setting("TOLLMESH_TRACEBACK", "1: an internal error shows its traceback"),
)
LOCAL = (
    Setting(
        "TOLLMESH_GATEWAY",
        "program of the REST facade that `tollmesh up` starts; it must exist, only the default is ever built",
        "that of the wheel, else `build/gateway`, built if it is missing and Go is there",
    ),
    Setting(
        "TOLLMESH_CRASHPOINT",
        "for tests: the point at which a process kills itself, `name`, `name:2` for its second pass, or `@file`",
    ),
)


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when it is stale"
    )
    check = parser.parse_args().check
    if missing := undescribed():
        print(f"nothing describes {', '.join(missing)}: see OTHERS here", file=sys.stderr)
        return 1
    return pages.write_or_check(ROOT, {PAGE: page()}, check=check, as_what="the settings give them")


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, settings in sections().items():
        parts.append(f"\n## {title}\n\n| setting | meaning | unit | default | bounds |\n")
        parts.append("| --- | --- | --- | --- | --- |\n")
        parts += [each.row() for each in settings]
    return "".join(parts)


def sections() -> dict[str, list[Setting]]:
    """Return all settings by who reads them."""
    return {
        "Services, and `tollmesh up`": list(_of_services()),
        "A mesh on one machine": [*LOCAL],
        "The command line": [*OTHERS, *_of_commands()],
        "The REST facade": list(_of_facade()),
    }


def undescribed() -> list[str]:
    """Return the names that the code reads and the page does not have."""
    described = {each.name for found in sections().values() for each in found}
    read = {
        name
        for pattern in ("*.py", "*.go")
        for path in (ROOT / "services").rglob(pattern)
        if not path.name.endswith("_test.go")
        for name in re.findall(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    return sorted(read - described - {"TOLLMESH_NATS"})


def _of_services() -> Iterator[Setting]:
    told = _attributes(Settings)
    for name, found in Settings.model_fields.items():
        yield Setting(
            PREFIX + name.upper(),
            told.get(name, ""),
            _default(found.default),
            next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), ""),
            _bounds(found.metadata),
        )


def _attributes(kind: type) -> dict[str, str]:
    """Read the section `Attributes` of a docstring. Raises LookupError: a field is not in it."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", text, re.MULTILINE)
    told = {name: re.sub(r"\s+", " ", meaning) for name, meaning in found}
    if missing := sorted(Settings.model_fields.keys() - told.keys()):
        raise LookupError(f"the docstring of {kind.__name__} does not say what {missing} are")
    return told


def _default(value: Any) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(plain, bool):
        return f"`{str(plain).lower()}`"
    return "" if plain in (None, "") else f"`{plain}`"


def _bounds(rules: list[Any]) -> str:
    least = next((rule.ge for rule in rules if hasattr(rule, "ge")), None)
    most = next((rule.le for rule in rules if hasattr(rule, "le")), None)
    if pattern := next((rule.pattern for rule in rules if getattr(rule, "pattern", "")), ""):
        return ", ".join(re.findall(r"[a-z]{2,}", pattern))
    if most is None:
        return "" if least is None else f"at least {least:,}"
    return f"{least:,} to {most:,}"


def _of_commands() -> Iterator[Setting]:
    seen: set[str] = set()
    found = [("", parameter) for parameter in _own_options()]
    found += [
        (path, parameter)
        for name, (_, command) in cli_page.commands().items()
        for path, each in _leaves(name, command)
        for parameter in each.params
    ]
    described = {PREFIX + name.upper() for name in Settings.model_fields}
    for path, parameter in found:
        name = parameter.envvar
        if isinstance(name, str) and name not in seen | described:
            seen.add(name)
            where = f"`tollmesh {path}`".replace(" `", "`") if path else "`tollmesh`"
            yield Setting(name, f"{parameter.help}; as {parameter.opts[0]} of {where}")


def _own_options() -> list[Any]:
    import typer  # noqa: PLC0415 - only to build the group

    from services.cli.app import app  # noqa: PLC0415

    return list(typer.main.get_command(app).params)


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, each in below.items():
        yield from _leaves(f"{path} {name}", each)


def _of_facade() -> Iterator[Setting]:
    """Read the flags of the facade; those that the environment can set stand first by that name."""
    sources = {path: path.read_text() for path in (ROOT / "services/gateway").rglob("*.go")}
    flags = re.findall(
        r'flags\.(\w+)Var\(&o\.\w+, "([a-z-]+)", (env\([^)]*\)|[^,]+),\s*"((?:[^"\\]|\\.)*)"\)',
        sources[ROOT / "services/gateway/main.go"],
        re.DOTALL,
    )
    for _, name, default, meaning in flags:
        variable, fallback = "", default
        if by_environment := re.fullmatch(r'env\("(\w+)", "(.*)"\)', default):
            variable, fallback = by_environment.groups()
        elif default.startswith("rest."):
            fallback = _constant(default.partition(".")[2], list(sources.values()))
        fallback = re.sub(r"(\d+)\*time\.Second", r"\1s", fallback)
        if variable == "TOLLMESH_ADDRESS":
            variable = ""  # described above
        yield Setting(
            variable or f"--{name}",
            meaning.replace(f" ({variable})", "") + (f"; as --{name}" if variable else ""),
            f"`{fallback}`",
        )


def _constant(name: str, sources: list[str]) -> str:
    for text in sources:
        if found := re.search(rf"^\s*(?:const )?{name}\s*=\s*([^/\n]+)", text, re.MULTILINE):
            return found[1].strip().replace(" << ", "<<")
    raise LookupError(f"the facade has no constant {name}")


if __name__ == "__main__":
    sys.exit(main())
