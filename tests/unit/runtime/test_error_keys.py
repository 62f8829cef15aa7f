"""The metadata keys of each error are those that errors.proto says. For the facade's own a Go test sees to it."""

from __future__ import annotations

import ast
import importlib
import json
import pickle
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import services
from services.runtime.errors import DomainError, InvalidField, NotFound, ScopeMissing, StorageLow
from tools import schemas, source_tree

for module in pkgutil.walk_packages(services.__path__, "services."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ROOT / "services"
PROTO = schemas.compiled(ROOT)
REASONS = schemas.reasons(PROTO)

# The facade alone answers with these; TestKeysOfErrorsAreThoseOfTheProto holds their keys.
GATEWAY_REASONS_MIN = 900
# No errors: reasons of an EventProblem, which has no metadata.
OF_PROBLEMS = {
    "EVENT_CANCELLED",
    "EVENT_CONFLICT",
    "EVENT_DUPLICATE",
    "EVENT_ENQUEUED",
    "EVENT_KEY_ENDED",
    "EVENT_NOT_FOUND",
    "EVENT_TOO_NEW",
    "EVENT_TOO_OLD",
    "EVENT_NOT_STORED",
    "METADATA_NOT_ALLOWED",
    "PERIOD_CLOSED",
}
# Errors that came from elsewhere, with the metadata that they came with.
AS_THEY_CAME = {"RemoteError", "StoredRefusal"}
# Who writes metadata other than through a constructor.
WRITE_METADATA = {
    "cli/client.py": "of its calls, which is no error's",
    "cli/errors.py": "as the mesh gave it, for who reads the error as JSON",
    "runtime/commands.py": "a stored refusal, as it was",
    "runtime/edge/status.py": "to the wire and back",
    "runtime/errors.py": "the constructor",
}


def classes(root: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    for found in root.__subclasses__():
        if found.__module__.startswith("services.") and found.__qualname__ not in AS_THEY_CAME:
            yield found
            yield from classes(found)


ALL = list(classes())


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.__qualname__)
def test_the_keys_of_every_class_are_those_of_the_proto(found: type[DomainError]) -> None:
    keys = {key.name: key.optional for key in found.keys.values()}
    assert keys == REASONS[found.reason].keys


def test_every_reason_is_a_class_or_the_facades() -> None:
    of_classes = {found.reason for found in ALL}
    of_facade = {name for name, reason in REASONS.items() if reason.number >= GATEWAY_REASONS_MIN}
    assert len(of_classes) > 50
    assert of_facade <= source_tree.used_in_go(SERVICES)
    of_the_past = {name for name, reason in REASONS.items() if reason.is_past}
    assert of_the_past == {"EVENT_AMOUNTS_UNAVAILABLE"}
    assert of_classes | of_facade | OF_PROBLEMS | of_the_past == REASONS.keys()
    assert not of_classes & (of_facade | OF_PROBLEMS | of_the_past)
    assert not any(REASONS[name].keys for name in OF_PROBLEMS)


@pytest.mark.parametrize(("name", "reason"), REASONS.items(), ids=REASONS)
def test_every_reason_has_its_example(name: str, reason: schemas.Reason) -> None:
    assert len(reason.meaning.split()) >= 4, "say what it means"
    info = json.loads(reason.example)
    assert (info["reason"], info["domain"]) == (name, "tollmesh.dev")
    metadata = info["metadata"]
    assert all(isinstance(value, str) for value in metadata.values())
    required = {key for key, optional in reason.keys.items() if not optional}
    assert required <= metadata.keys() <= reason.keys.keys()


@pytest.mark.parametrize(
    "comment",
    [
        " Says it.\n\n     {}\n",
        " Says it.\n\n Metadata: a.\n\n     {}\n",
        " Says it.\n\n Metadata: `a` `b`.\n\n     {}\n",
        " Says it.\n\n Metadata: `a` (sometimes).\n\n     {}\n",
        " Says it.\n\n Metadata: `a`.\n",
    ],
)
def test_a_comment_of_another_form_is_noticed(comment: str) -> None:
    with pytest.raises(ValueError, match="ERROR_REASON_A: "):
        schemas.reason("ERROR_REASON_A", 1, comment)


def test_a_comment_tells_keys_and_example() -> None:
    comment = ' Says it.\n\n Metadata: `a`, `b` (optional).\n\n     {"a": 1}\n'
    read = schemas.reason("ERROR_REASON_A", 1, comment)
    assert (read.keys, read.example) == ({"a": False, "b": True}, '{"a": 1}')


def test_other_keys_are_refused_by_types_and_constructor() -> None:
    """An ignored complaint that mypy does not have fails `make check-types`."""
    with pytest.raises(TypeError, match="ScopeMissing does not declare more"):
        ScopeMissing("no", scope="a:read", method="/m", more="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ScopeMissing needs method"):
        ScopeMissing("no", scope="a:read")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="InvalidField does not declare paths"):
        InvalidField("no", paths="a")  # type: ignore[call-arg]


def test_no_call_hides_its_keys_from_types() -> None:
    names = {found.__name__ for found in ALL}
    hidden = [
        f"{path.relative_to(SERVICES)}:{node.lineno}"
        for path in source_tree.trees(SERVICES)
        for node in source_tree.nodes_of(path)
        if isinstance(node, ast.Call)
        and source_tree.called_name(node) in names
        and any(keyword.arg is None for keyword in node.keywords)
    ]
    assert hidden == []


@cache
def keywords() -> dict[str, frozenset[str | None]]:
    """What is named in the calls of each name, wherever it is called."""
    given: dict[str, set[str | None]] = {}
    for call in source_tree.calls(SERVICES):
        named = given.setdefault(source_tree.called_name(call), set())
        named.update(keyword.arg for keyword in call.keywords)
    return {name: frozenset(named) for name, named in given.items()}


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.__qualname__)
def test_every_optional_key_is_sent_by_somebody(found: type[DomainError]) -> None:
    """Types ask for all others."""
    makers = {kind.__name__ for kind in found.__mro__} | {"cls"}
    sent = frozenset().union(*(keywords().get(maker, ()) for maker in makers))
    assert {key.name for key in found.keys.values() if key.optional} <= sent


def test_metadata_is_written_by_constructors() -> None:
    writers = {
        path.relative_to(SERVICES).as_posix()
        for path in source_tree.trees(SERVICES)
        for node in source_tree.nodes_of(path)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)
        for target in [node.value if isinstance(node, ast.Subscript) else node]
        if isinstance(target, ast.Attribute) and target.attr == "metadata"
    }
    assert writers == WRITE_METADATA.keys()


def test_what_is_optional_is_left_out() -> None:
    assert StorageLow("full").metadata == {}
    assert StorageLow("full", free_bytes=0).metadata == {"free_bytes": "0"}


def test_every_broken_field_is_named_in_the_metadata() -> None:
    assert InvalidField.one("a.b", "is wrong").metadata == {"fields": "a.b"}
    error = InvalidField.one("a.b", "is wrong", pointer="/a/b")
    assert (error.metadata, error.paths) == ({"fields": "a.b", "pointer": "/a/b"}, "a.b")


def test_an_error_is_pickled_as_it_is() -> None:
    """Workers send errors to their parent so."""
    error = NotFound("charge", "chg_1")
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, NotFound)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))
