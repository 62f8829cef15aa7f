"""Generation: what is carried over, what a check finds, and that a second run changes nothing."""

import os
import time
from pathlib import Path

import pytest

from tools import generate
from tools.generate import PARTS, GenerationFailed, Part

ROOT = Path(__file__).resolve().parents[3]


def write(folder: Path, **files: str) -> Path:
    """A folder with files, named by keyword: `a__b` is a/b."""
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_differences_name_what_is_missing_stale_and_changed(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", same="1", new="1", sub__changed="2")
    kept = write(tmp_path / "kept", same="1", old="1", sub__changed="1")
    found = [(kind, str(path)) for kind, path in generate.differences(fresh, kept)]
    assert ("missing", "new") in found
    assert ("stale", "old") in found
    assert ("changed", "sub/changed") in found
    assert not any(path == "same" for _, path in found)


def test_comments_of_go_are_compared_by_their_words(tmp_path: Path) -> None:
    kept = write(tmp_path / "kept", **{"a.go": "// One:\n//\n//\ttwo {\n//\t}\nvar x = 1\n"})
    laid_out = write(tmp_path / "laid", **{"a.go": "// One:\n//   two {\n// }\nvar x = 1\n"})
    reworded = write(tmp_path / "word", **{"a.go": "// One:\n//   three {\n// }\nvar x = 1\n"})
    other_code = write(tmp_path / "code", **{"a.go": "// One:\n//\ttwo {\n//\t}\nvar x = 2\n"})
    other_kind = write(tmp_path / "kind", **{"a.py": "//  x\n"})
    assert list(generate.differences(laid_out, kept)) == []
    assert [kind for kind, _ in generate.differences(reworded, kept)] == ["changed"]
    assert [kind for kind, _ in generate.differences(other_code, kept)] == ["changed"]
    assert not generate.same(
        other_kind / "a.py", write(tmp_path / "k2", **{"a.py": "// x\n"}) / "a.py"
    )


def test_carrying_over_makes_both_trees_equal_and_leaves_equal_files_alone(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", same="1", new="1", sub__changed="2")
    kept = write(tmp_path / "kept", same="1", old="1", sub__changed="1")
    long_ago = time.time() - 1_000
    os.utime(kept / "same", (long_ago, long_ago))
    assert generate.carry_over(fresh, kept) == 3
    assert list(generate.differences(fresh, kept)) == []
    assert (kept / "same").stat().st_mtime == pytest.approx(long_ago, abs=1)


def test_interpreters_leftovers_are_no_difference(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", a="1")
    kept = write(tmp_path / "kept", a="1")
    write(kept / "__pycache__", leftover="1")
    assert list(generate.differences(fresh, kept)) == []


@pytest.mark.parametrize("name", ["python", "sdk"])
def test_generating_twice_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    part = PARTS[name]
    for stage in ("first", "second"):
        generate.generate(part, tmp_path / stage)
    assert list(generate.differences(tmp_path / "first", tmp_path / "second")) == []
    assert generate.files_of(tmp_path / "first")


def test_every_level_of_the_generated_code_is_a_package(tmp_path: Path) -> None:
    generate.generate(PARTS["python"], tmp_path)
    folders = [path for path in (tmp_path / "gen/python").rglob("*") if path.is_dir()]
    assert folders
    assert [path for path in folders if not (path / "__init__.py").exists()] == []


def test_no_types_without_a_module(tmp_path: Path) -> None:
    generate.generate(PARTS["python"], tmp_path)
    stubs = list((tmp_path / "gen/python").rglob("*_pb2_grpc.pyi"))
    assert stubs
    assert [path for path in stubs if not path.with_suffix(".py").exists()] == []


def test_a_refusal_of_buf_is_an_error_with_its_words(tmp_path: Path) -> None:
    broken = Part("no-such-template.yaml", (), generate.finish_jsonschema)
    with pytest.raises(GenerationFailed, match=r"no-such-template\.yaml"):
        generate.generate(broken, tmp_path)
