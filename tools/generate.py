"""Write gen/ from proto/, or check that gen/ is what proto/ would give.

Each part is generated into a temporary folder and then carried over file by file, so that a run never
leaves half a tree behind, stale files go, and unchanged files keep their time of change.
"""

import argparse
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pb2

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import go_toolchain, sdk_services

ROOT = Path(__file__).resolve().parent.parent

GATEWAY_MODULE = "services/gateway/go.mod"
GO_MODULE = """\
// Written by tools/generate.py, with the versions of services/gateway/go.mod.
module tollmesh.dev/gen/go

go {go}

require (
{direct}
)

require (
{indirect}
)
"""
# What the generated code imports, and what a build of that needs besides.
GO_DIRECT = (
    "github.com/grpc-ecosystem/grpc-gateway/v2",
    "google.golang.org/genproto/googleapis/api",
    "google.golang.org/grpc",
    "google.golang.org/protobuf",
)
GO_INDIRECT = (
    "golang.org/x/net",
    "golang.org/x/sys",
    "golang.org/x/text",
    "google.golang.org/genproto/googleapis/rpc",
)


CATALOG_BUNDLE = "payments.pricing.v1.Catalog.schema.bundle.json"


def finish_python(stage: Path) -> None:
    """Make every folder a package: an installed `payments` would shadow a mere namespace."""
    for folder in (path for path in (stage / "gen/python").rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()


def finish_jsonschema(stage: Path) -> None:
    """Keep of pricing only the catalogue: its bundle holds all that it names, and nobody writes the rest by hand."""
    for path in (stage / "gen/jsonschema").glob("payments.pricing.v1.*.json"):
        if path.name != CATALOG_BUNDLE:
            path.unlink()


def finish_sdk(stage: Path) -> None:
    """Put the messages on the base that refuses what does not fit its field, and add the services' methods."""
    package = stage / "gen/sdk/payments_sdk"
    image = stage / "image.binpb"
    run_buf("build", "--path", "proto/payments", "--output", str(image))
    names = json_names(image.read_bytes())
    for path in package.rglob("*.py"):
        path.write_text(with_json_names(on_checked_base(path.read_text()), names))
    shutil.copyfile(ROOT / "tools/sdk_checked.py", package / "checked.py")
    rpc = (ROOT / "tools/sdk_rpc.py").read_text()
    (package / "rpc.py").write_text(rpc.replace("from tools.sdk_checked ", "from .checked "))
    sdk_services.write(image.read_bytes(), package / "services")


def json_names(image: bytes) -> dict[tuple[str, str], dict[str, str]]:
    """Return the fields that the proto gives a name of their own in JSON, by package and message."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(image).file:
        for message in file.message_type:
            own = {
                field.name: field.json_name
                for field in message.field
                if field.json_name != re.sub("_(.?)", lambda part: part[1].upper(), field.name)
            }
            if own:
                found[file.package, message.name] = own
    return found


def with_json_names(source: str, names: Mapping[tuple[str, str], dict[str, str]]) -> str:
    """Tell the classes of a generated module their names in JSON, which the generator leaves out."""
    for (package, message), own in names.items():
        source = re.sub(
            rf'^default_message_pool\.register_message\(\s*"{re.escape(package)}", "{message}", {message}\s*\)$',
            lambda found: f"{message}.json_names = {json.dumps(own)}\n{found[0]}",  # noqa: B023 - used at once
            source,
            flags=re.MULTILINE,
        )
    return source


def on_checked_base(source: str) -> str:
    """Return a generated module with our bases in the place of betterproto2's."""
    source = re.sub(
        r"^from (\.+)message_pool import default_message_pool$",
        r"from \1checked import CheckedDuration, CheckedMessage, CheckedTimestamp\n\g<0>",
        source,
        flags=re.MULTILINE,
    )
    source = re.sub(
        r"^class (Duration|Timestamp)\(betterproto2\.Message\):$",
        r"class \1(Checked\1):",
        source,
        flags=re.MULTILINE,
    )
    source = re.sub(
        r"^(class \w+)\(betterproto2\.Message\):$",
        r"\1(CheckedMessage):",
        source,
        flags=re.MULTILINE,
    )
    return source.replace("betterproto2.Message.to_dict", "CheckedMessage.to_dict")


def finish_go(stage: Path) -> None:
    """Make the Go code a module that builds by itself, so that others can import it."""
    folder, gateway = stage / "gen/go", ROOT / GATEWAY_MODULE
    (folder / "go.mod").write_text(go_module(gateway.read_text()))
    # More than this module needs, which does no harm: each line is a checksum.
    shutil.copyfile(gateway.with_name("go.sum"), folder / "go.sum")


def go_module(gateway: str) -> str:
    """Return the go.mod of the generated code, from that of the facade. Raises GenerationFailed."""
    versions = dict(re.findall(r"^\s+(\S+) (v\S+)", gateway, re.MULTILINE))
    go = re.search(r"^go (\S+)$", gateway, re.MULTILINE)
    missing = [name for name in (*GO_DIRECT, *GO_INDIRECT) if name not in versions]
    if missing or go is None:
        raise GenerationFailed(f"{GATEWAY_MODULE} names no version of {', '.join(missing) or 'Go'}")
    return GO_MODULE.format(
        go=go[1],
        direct="\n".join(f"\t{name} {versions[name]}" for name in GO_DIRECT),
        indirect="\n".join(f"\t{name} {versions[name]} // indirect" for name in GO_INDIRECT),
    )


@dataclass(frozen=True)
class Part:
    """One template of buf with the folders that it fills."""

    template: str
    folders: tuple[str, ...]
    finish: Callable[[Path], None]
    go_mod: str | None = None
    """The go.mod that names the plugins, for parts that need Go."""


PARTS = {
    "python": Part("buf.gen.yaml", ("gen/python",), finish_python),
    "sdk": Part("buf.gen.sdk.yaml", ("gen/sdk",), finish_sdk),
    "go": Part("buf.gen.go.yaml", ("gen/go", "gen/openapi"), finish_go, GATEWAY_MODULE),
    "jsonschema": Part(
        "buf.gen.jsonschema.yaml",
        ("gen/jsonschema",),
        finish_jsonschema,
        "tools/jsonschema/go.mod",
    ),
}


class GenerationFailed(RuntimeError):
    """buf or one of its plugins refused; the message repeats what it said."""


def environment(go_mod: str | None = None) -> dict[str, str]:
    """The caller's environment with this interpreter's programs, and Go if needed, first on PATH."""
    folders = [sysconfig.get_path("scripts")]
    if go_mod is not None:
        folders.append(str(go_toolchain.find(go_mod).parent))
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    # Bytecode beside the plugins would be the only thing that a check writes into the tree.
    return os.environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def generate(part: Part, stage: Path, root: Path = ROOT) -> None:
    """Run one template into `stage`.

    Raises:
        GenerationFailed: buf ended with an error.
    """
    options = ("--template", part.template, "--output", str(stage))
    run_buf("generate", *options, go_mod=part.go_mod, root=root)
    part.finish(stage)


def run_buf(*arguments: str, go_mod: str | None = None, root: Path = ROOT) -> None:
    """Run buf on the proto files below `root`. Raises GenerationFailed: it ended with an error."""
    run = subprocess.run(
        ["buf", *arguments],
        cwd=root,
        env=environment(go_mod),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise GenerationFailed(f"buf {' '.join(arguments)}: exit {run.returncode}\n{run.stderr}")


def files_of(folder: Path) -> set[Path]:
    """Relative paths of all files below, without what interpreters leave there."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder) for path in found if "__pycache__" not in path.parts}


def same(fresh: Path, kept: Path) -> bool:
    """True when two files say the same.

    Go's formatter lays comments out anew from release to release, and the plugins format with the Go that runs
    them. So comments of Go files are compared by their words: which Go is installed must not matter.
    """
    if filecmp.cmp(fresh, kept, shallow=False):
        return True
    return fresh.suffix == ".go" and words_of_go(fresh) == words_of_go(kept)


def words_of_go(path: Path) -> list[str]:
    """The lines of a Go file; a comment's by their words, in no order (links are moved), without empty ones."""
    lines: list[str] = []
    comment: list[str] = []
    for line in [*path.read_text().splitlines(), ""]:
        bare = line.strip()
        if bare.startswith("//"):
            comment.append(" ".join(bare.removeprefix("//").split()))
        else:
            lines.extend(sorted(filter(None, comment)))
            comment.clear()
            lines.append(line)
    return lines


def differences(fresh: Path, kept: Path) -> Iterator[tuple[str, Path]]:
    """What separates two trees: (missing | stale | changed, relative path), sorted by path."""
    new, old = files_of(fresh), files_of(kept)
    for path in sorted(new | old):
        if path not in old:
            yield "missing", path
        elif path not in new:
            yield "stale", path
        elif not same(fresh / path, kept / path):
            yield "changed", path


def carry_over(fresh: Path, kept: Path) -> int:
    """Make `kept` equal to `fresh`; the number of files written or removed."""
    count = 0
    for kind, path in list(differences(fresh, kept)):
        target = kept / path
        if kind == "stale":
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Replaced in one step: another process may be importing it right now.
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(fresh / path, partial)
            partial.replace(target)
        count += 1
    return count


def run_part(name: str, check: bool, root: Path = ROOT) -> list[str]:
    """Generate one part; with `check` only compare. Returns what differed, one line a file."""
    part = PARTS[name]
    with tempfile.TemporaryDirectory(prefix="tollmesh-gen-") as folder:
        stage = Path(folder)
        generate(part, stage, root)
        found = []
        for target in part.folders:
            lines = [f"{k}: {target}/{p}" for k, p in differences(stage / target, root / target)]
            found.extend(lines)
            if not check:
                carry_over(stage / target, root / target)
    return found


def main() -> int:
    """Exit 0 when gen/ is (now) right, 1 when --check found a difference or buf refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="default: all")
    parser.add_argument("--check", action="store_true", help="change nothing, list differences")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    stale: list[str] = []
    for name in arguments.parts or PARTS:
        try:
            found = run_part(name, arguments.check)
        except (GenerationFailed, go_toolchain.GoUnavailable) as error:
            print(f"gen/ ({name}): {error}", file=sys.stderr)
            return 1
        stale.extend(found)
        verb = "differ" if arguments.check else "written"
        print(f"{name}: {len(found)} files {verb}")
    if arguments.check and stale:
        print(*stale, "Run `make generate` and commit gen/.", sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
