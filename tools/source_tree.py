"""What the hand-written code says, read from its syntax trees without importing it."""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Calls whose literal first argument names a unit of work; each has a crash point on either side of
# its commit.
UNITS_OF_WORK = {
    "unit_of_work",
    "across_tenants",
    "UseCase",
    "SteppedUseCase",
    "apply",
    "step",
    "refusing",
}
NAMED_BY_LITERAL = {"crashpoint", "unit_of_work", "across_tenants"}


@cache
def trees(folder: Path) -> dict[Path, ast.Module]:
    """Every Python file below a folder, parsed."""
    return {path: _tree(path) for path in sorted(folder.rglob("*.py"))}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file; walking through all of a service's costs half a second each time."""
    return tuple(ast.walk(_tree(path)))


def nodes(folder: Path) -> Iterator[ast.AST]:
    """Every node of every file below a folder."""
    return itertools.chain.from_iterable(map(nodes_of, trees(folder)))


@cache
def calls(folder: Path) -> tuple[ast.Call, ...]:
    """Every call in every file below a folder."""
    return tuple(node for node in nodes(folder) if isinstance(node, ast.Call))


def called_name(call: ast.Call) -> str:
    """`unit_of_work` for both `unit_of_work(…)` and `database.unit_of_work(…)`."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def literal_argument(call: ast.Call) -> str | None:
    """The first argument, when it is a text literal."""
    if call.args and isinstance(call.args[0], ast.Constant):
        value = call.args[0].value
        return value if isinstance(value, str) else None
    return None


def crash_points(services: Path) -> frozenset[str]:
    """The name of every crash point that the code can reach."""
    found: set[str] = set()
    for call in calls(services):
        name, literal = called_name(call), literal_argument(call)
        if literal is None:
            continue
        if name == "crashpoint":
            found.add(literal)
        elif name in UNITS_OF_WORK and "." in literal:
            found.update({f"{literal}.before_commit", f"{literal}.after_commit"})
    return frozenset(found)


def unnamed_crash_points(services: Path, allowed: frozenset[str]) -> list[str]:
    """Places that give a crash point or unit of work a computed name, which nobody could list.

    `allowed` are paths, relative to `services`, of the few modules that pass a caller's name on.
    """
    found = []
    for path in trees(services):
        place = path.relative_to(services).as_posix()
        for node in nodes_of(path):
            if not isinstance(node, ast.Call) or called_name(node) not in NAMED_BY_LITERAL:
                continue
            if literal_argument(node) is None and place not in allowed:
                found.append(f"{place}:{node.lineno}")
    return found


def declared_reasons(services: Path) -> dict[str, set[str]]:
    """Error reasons by the classes that carry them: `reason = "NOT_FOUND"` in a class body."""
    found: dict[str, set[str]] = {}
    for node in nodes(services):
        if isinstance(node, ast.ClassDef):
            for reason in filter(None, map(reason_of, node.body)):
                found.setdefault(reason, set()).add(node.name)
    return found


def reason_of(statement: ast.stmt) -> str | None:
    """The text of a statement `reason = "…"`, annotated or not."""
    match statement:
        case ast.Assign(targets=[ast.Name(id="reason")], value=ast.Constant(value=str(text))):
            return text
        case ast.AnnAssign(target=ast.Name(id="reason"), value=ast.Constant(value=str(text))):
            return text
    return None


@cache
def used_names(services: Path) -> frozenset[str]:
    """Every name that the code calls, raises or takes an attribute of."""
    found: set[str] = set()
    for node in nodes(services):
        match node:
            case ast.Call():
                found.add(called_name(node))
            case ast.Raise(exc=ast.Name(id=name)) | ast.Attribute(value=ast.Name(id=name)):
                found.add(name)
            case ast.Attribute(value=ast.Attribute(attr=name)):
                found.add(name)
    return frozenset(found)


@cache
def used_texts(services: Path) -> frozenset[str]:
    """Every text literal but those that only declare a class's reason."""
    declaring = {
        id(statement.value)
        for node in nodes(services)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and reason_of(statement)
    }
    return frozenset(
        node.value
        for node in nodes(services)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in declaring
    )


def used_in_go(services: Path) -> frozenset[str]:
    """Every error reason that the facade's Go code answers with, tests left out."""
    sources = (path for path in services.rglob("*.go") if not path.name.endswith("_test.go"))
    return frozenset(
        reason
        for path in sources
        for reason in re.findall(r"ErrorReason_ERROR_REASON_(\w+)", path.read_text())
    )


def raised_reasons(services: Path) -> frozenset[str]:
    """Reasons that a caller can meet: their class is used, or they are answered as a text, or by the facade."""
    names, texts = used_names(services), used_texts(services)
    by_class = {reason for reason, classes in declared_reasons(services).items() if classes & names}
    return frozenset(by_class | texts | used_in_go(services))
