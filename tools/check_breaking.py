"""Refuse schema changes that break callers.

Compares proto/ with the parent commit and with the image of the last release. `buf breaking` against a
branch proves nothing once the change is on that branch, so the parent is always an explicit commit.

Exit status: 0 compatible, 100 a breaking change (buf's own code), 2 the check itself could not run.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sysconfig.get_path("scripts"), "buf")

COMPATIBLE, BROKEN_CHECK, BREAKING = 0, 2, 100

OPENAPI = "gen/openapi/tollmesh.openapi.json"
MAIN_BRANCHES = ("origin/main", "main")


class CheckBroken(RuntimeError):
    """The comparison could not be made; passing would be a lie."""


@dataclass(frozen=True)
class Baseline:
    """What proto/ is compared with."""

    title: str
    image: Path


def git(root: Path, *arguments: str) -> bytes | None:
    """Output of a git command, or None when it fails.

    The checkout may belong to another user (a container's mount): reading it is harmless, so git is
    told that it is safe.
    """
    command = ["git", "-c", "safe.directory=*", *arguments]
    run = subprocess.run(command, cwd=root, capture_output=True, check=False)
    return run.stdout if run.returncode == 0 else None


def commit(root: Path, revision: str) -> str | None:
    """Full id of a revision, if it exists here."""
    found = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    return found.decode().strip() if found else None


def is_dirty(root: Path) -> bool:
    """True when the working tree's schemas differ from HEAD, new files included."""
    return bool(git(root, "status", "--porcelain", "--", "proto", "buf.yaml"))


def merge_base(root: Path) -> str | None:
    """Where this branch left main, when HEAD is on a branch of its own."""
    head = commit(root, "HEAD")
    for branch in MAIN_BRANCHES:
        found = git(root, "merge-base", branch, "HEAD")
        base = found.decode().strip() if found else None
        if base and base != head:
            return base
    return None


def parent_commit(root: Path) -> str | None:
    """The commit that this tree follows.

    Uncommitted schemas follow HEAD; a branch follows its merge base, so that a break hidden between two
    of its commits is seen; main follows its first parent.
    """
    if is_dirty(root):
        return commit(root, "HEAD")
    return merge_base(root) or commit(root, "HEAD~1")


def build_image(root: Path, image: Path, *options: str) -> None:
    """Compile the schemas of a tree into an image of buf; `options` are buf's.

    Raises:
        CheckBroken: they do not compile.
    """
    command = [str(BUF), "build", ".", "--output", str(image), *options]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise CheckBroken(f"buf build in {root}: exit {run.returncode}\n{run.stderr}")


def image_of_commit(root: Path, revision: str, folder: Path) -> Path | None:
    """Image of the schemas at a commit; None when it has none.

    Raises:
        CheckBroken: its schemas do not compile.
    """
    archive = git(root, "archive", "--format=zip", revision, "buf.yaml", "proto")
    if archive is None:
        return None
    tree = folder / revision
    with zipfile.ZipFile(BytesIO(archive)) as files:
        files.extractall(tree)
    image = folder / f"{revision}.binpb"
    build_image(tree, image)
    return image


def breaking(root: Path, baseline: Baseline) -> int:
    """Run `buf breaking` for the tree at `root`; COMPATIBLE or BREAKING.

    Raises:
        CheckBroken: buf ended with any code that is neither, or the tree does not compile: buf answers
            that with 100 as well, so compiling comes first.
    """
    with tempfile.TemporaryDirectory(prefix="tollmesh-image-") as folder:
        build_image(root, Path(folder, "current.binpb"))
    command = [str(BUF), "breaking", ".", "--against", str(baseline.image)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode not in (COMPATIBLE, BREAKING):
        raise CheckBroken(f"buf breaking, exit {run.returncode}: {run.stdout}{run.stderr}")
    verdict = "compatible" if run.returncode == COMPATIBLE else "BREAKING"
    print(f"schemas against {baseline.title}: {verdict}")
    if run.returncode == BREAKING:
        print(run.stdout, end="", file=sys.stderr)
    return run.returncode


def release_image(root: Path) -> Path | None:
    """The image of the last release, by version; None when nothing was released."""
    return newest(root, "schema-v*.binpb")


def newest(root: Path, pattern: str) -> Path | None:
    """The file of the highest version among tests/golden/<pattern>."""
    return max((root / "tests/golden").glob(pattern), key=release_version, default=None)


def release_version(recorded: Path) -> tuple[int, ...]:
    """`schema-v0.10.0.binpb` is (0, 10, 0), so that 0.10 follows 0.9."""
    return tuple(int(part) for part in recorded.stem.partition("-v")[2].split("."))


def baselines(root: Path, folder: Path) -> list[Baseline]:
    """What there is to compare with; says loudly what is missing.

    Raises:
        CheckBroken: the parent's schemas do not compile.
    """
    found: list[Baseline] = []
    parent = parent_commit(root)
    image = image_of_commit(root, parent, folder) if parent else None
    if parent and image:
        found.append(Baseline(f"parent commit {parent[:10]}", image))
    else:
        missing = f"commit {parent[:10]} has no schemas" if parent else "there is no parent commit"
        print(f"WARNING: schemas NOT compared with a parent: {missing}", file=sys.stderr)
    released = release_image(root)
    if released:
        found.append(Baseline(f"release {released.stem.removeprefix('schema-')}", released))
    else:
        print(
            "WARNING: schemas NOT compared with a release: tests/golden has none", file=sys.stderr
        )
    return found


def check(root: Path) -> int:
    """Compare with every baseline; the worst verdict.

    Raises:
        CheckBroken: a comparison could not be made, or there is nothing at all to compare with.
    """
    with tempfile.TemporaryDirectory(prefix="tollmesh-schemas-") as folder:
        found = baselines(root, Path(folder))
        if not found:
            raise CheckBroken("neither a parent commit with schemas nor a release image exists")
        return max(breaking(root, baseline) for baseline in found)


def project_version(root: Path) -> str:
    """The version of pyproject.toml."""
    with (root / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def record(root: Path) -> Path:
    """Store schemas and REST description as those of the version that pyproject.toml names.

    Raises:
        CheckBroken: the schemas do not compile, or gen/ is missing.
    """
    golden = root / "tests/golden"
    golden.mkdir(parents=True, exist_ok=True)
    description = root / OPENAPI
    if not description.exists():
        raise CheckBroken(f"{OPENAPI} is missing: run `make generate` first")
    version = project_version(root)
    image = golden / f"schema-v{version}.binpb"
    build_image(root, image, "--exclude-source-info")  # a comment breaks nobody
    shutil.copyfile(description, golden / f"openapi-v{version}.json")
    return image


def main() -> int:
    """Check or record; see the exit status above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="tree to check")
    parser.add_argument("--record", action="store_true", help="write the release image instead")
    arguments = parser.parse_args()
    try:
        if arguments.record:
            print(f"recorded {record(arguments.root).relative_to(arguments.root)}")
            return COMPATIBLE
        return check(arguments.root)
    except CheckBroken as error:
        print(f"The check of the schemas did not run: {error}", file=sys.stderr)
        return BROKEN_CHECK


if __name__ == "__main__":
    raise SystemExit(main())
