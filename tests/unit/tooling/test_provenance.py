"""Vendored files are byte for byte what their PROVENANCE says."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest

PROTO = Path(__file__).resolve().parents[3] / "proto"
VENDORED = ("google", "buf")
PAGE = PROTO.parent / "services" / "gateway" / "internal" / "docs" / "swagger-ui"


def provenance(name: str, root: Path = PROTO) -> tuple[dict[str, str], dict[str, str]]:
    """The facts and the hashes by path that a PROVENANCE file states."""
    head, _, tail = (root / name / "PROVENANCE").read_text().partition("sha256:\n")
    facts = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    hashes = {path: digest for digest, path in (line.split() for line in tail.splitlines())}
    return facts, hashes


def altered(root: Path, hashes: dict[str, str]) -> list[str]:
    """Paths whose content has another hash than stated."""
    return [
        path
        for path, digest in hashes.items()
        if hashlib.sha256((root / path).read_bytes()).hexdigest() != digest
    ]


@pytest.mark.parametrize("name", VENDORED)
def test_every_vendored_file_is_listed_and_unaltered(name: str) -> None:
    _, hashes = provenance(name)
    present = {str(path.relative_to(PROTO)) for path in (PROTO / name).rglob("*.proto")}
    assert present == set(hashes)
    assert altered(PROTO, hashes) == []


@pytest.mark.parametrize("name", VENDORED)
def test_package_version_and_licence_are_stated(name: str) -> None:
    facts, _ = provenance(name)
    assert facts["licence"] == "Apache-2.0"
    assert facts["package"] and facts["version"]


def test_files_of_the_page_are_listed_and_unaltered() -> None:
    facts, hashes = provenance("", PAGE)
    assert (facts["package"], facts["licence"]) == ("swagger-ui-dist", "Apache-2.0")
    assert {path.name for path in PAGE.iterdir()} == {*hashes, "PROVENANCE"}
    assert altered(PAGE, hashes) == []


def test_google_files_are_those_of_the_stated_wheel() -> None:
    facts, hashes = provenance("google")
    wheel = metadata.distribution(facts["package"])
    assert wheel.version == facts["version"]
    assert altered(Path(str(wheel.locate_file(""))), hashes) == []


def test_an_altered_file_is_noticed(tmp_path: Path) -> None:
    _, hashes = provenance("buf")
    path, digest = next(iter(hashes.items()))
    copy = tmp_path / path
    copy.parent.mkdir(parents=True)
    copy.write_bytes((PROTO / path).read_bytes() + b"\n")
    assert altered(tmp_path, {path: digest}) == [path]
