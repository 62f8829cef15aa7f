"""Every error says whether its refusal is about the request itself, and so an answer to keep, or about state."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import services
from services.runtime.commands import refusal_bytes
from services.runtime.errors import Code, DomainError, InvalidField

for module in pkgutil.walk_packages(services.__path__, "services."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)


def classes(root: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    for found in root.__subclasses__():
        if found.__module__.startswith("services."):
            yield found
        yield from classes(found)


ALL = sorted(set(classes()), key=lambda found: found.__qualname__)


def bare(found: type[DomainError]) -> DomainError:
    """Make one without its own arguments."""
    return found.__new__(found)


def test_there_are_errors_to_look_at() -> None:
    assert len(ALL) > 50


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.__qualname__)
def test_every_class_says_what_its_refusal_depends_on(found: type[DomainError]) -> None:
    said = [base for base in found.__mro__ if "state_dependent" in vars(base)]
    assert said[0] is not DomainError, f"{found.__qualname__} inherits the root's word: classify it"


# Never the outcome of a handler: given before one runs, or in no call at all.
NO_HANDLERS = {"PaymentNotBookable", "RequestIdReused", "StoredRefusal"}


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.__qualname__)
def test_what_is_kept_is_an_invalid_argument(found: type[DomainError]) -> None:
    """So gRPC defines the code: it holds regardless of the state of the system. The migration 0010 counts on it."""
    if bare(found).is_answer and found.__qualname__ not in NO_HANDLERS:
        assert found.code is Code.INVALID_ARGUMENT


def test_the_three_ways_in_which_a_refusal_is_no_answer() -> None:
    class AboutRequest(DomainError):
        code = Code.INVALID_ARGUMENT
        state_dependent = False

    class AboutState(AboutRequest):
        state_dependent = True

    class Passing(AboutRequest):
        code = Code.UNAVAILABLE

    assert AboutRequest("no").is_answer
    assert not AboutRequest("no", retry_after_ms=1).is_answer
    assert not AboutState("no").is_answer
    assert not Passing("no").is_answer


def test_the_same_refusal_has_the_same_bytes() -> None:
    """Metadata of another service's error comes in any order."""
    one, other, third = (InvalidField.one("a", "no") for _ in range(3))
    one.metadata, other.metadata = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    third.metadata = {"a": "1", "b": "3"}
    assert refusal_bytes(one) == refusal_bytes(other)
    assert refusal_bytes(one) != refusal_bytes(third)
