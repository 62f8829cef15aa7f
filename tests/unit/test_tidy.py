"""What no compiler checks: the promises that the parts of this repository make to one another."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from google.protobuf.descriptor import MethodDescriptor

from services.pricing.domain.catalog import Entity, PlanVersion
from services.runtime import manifests
from services.runtime.audited import KINDS
from services.runtime.manifests import Manifest
from tests.chaos import crash_points
from tools import schemas, source_tree

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
PROTO = schemas.compiled(ROOT)

# Input that nothing bounds on purpose; each with the reason.
UNLIMITED: dict[str, str] = {
    "payments.contracts.v1.ContractViolation.violation_id": "output only; never read from input",
    "payments.contracts.v1.ContractViolation.fingerprint": "output only; never read from input",
    "payments.events.v1.Event.data": "written as JSON, it is limited as `json` is",
    "payments.events.v1.Event.message": "output only; an event that brings one is refused unread",
    "payments.events.v1.Schedule.data": "written as JSON, it is limited as `json` is",
    "payments.orchestration.v1.CreatePaymentRequest.external_request": "a fault is a finding, not a "
    "refusal: the parser bounds bytes and depth",
    "payments.orchestration.v1.PlanPaymentRequest.external_request": "as in CreatePaymentRequest",
}

# RPCs that change state without a request_id: what they write is keyed by ids inside, so that the same
# call again finds everything done.
KEYED_BY_CONTENT = {
    "payments.contracts.v1.ContractMonitorService.RecordViolations": "violation_id, else fingerprint",
    "payments.contracts.v1.ContractMonitorService.RegisterContracts": "contract_id and version",
    "payments.events.v1.EventService.PublishCloudEvents": "id of each event",
    "payments.orchestration.v1.PaymentService.ReceiveWebhook": "id of the processor's event",
    "payments.events.v1.EventService.PublishEvents": "id of each event",
    "payments.events.v1.EventService.RegisterEventTypes": "subject and version",
    "payments.ledger.v1.LedgerService.CreateAccounts": "account_id",
    "payments.ledger.v1.LedgerService.PostRecipes": "recipe and reference of each posting",
    "payments.ledger.v1.LedgerService.PostTransfers": "transfer_id",
    "payments.metering.v1.MeteringService.IngestCloudEvents": "source and id of each event",
    "payments.metering.v1.MeteringService.IngestEvents": "request_id of each event",
    "payments.metering.v1.MeteringService.StreamEvents": "request_id of each event",
}

# Modules that pass on the name of a unit of work which their caller gave as a literal.
NAME_PASSED_ON = frozenset({"runtime/database.py", "runtime/commands.py"})

# RPCs whose scope is not named as their service; each with the reason.
SCOPE_OF = {
    # Who audits sees what was done, and no keys.
    "payments.access.v1.AccessService.ListAuditEntries": "audit",
    # Whose address a processor is given may do nothing else.
    "payments.orchestration.v1.PaymentService.ReceiveWebhook": "webhooks",
}

# Packages that are not named as the folder of their service.
FOLDER_OF_PACKAGE = {"contracts": "monitoring"}

METHODS = pytest.mark.parametrize("method", PROTO.methods, ids=lambda method: method.full_name)


# ---- Schemas


def owner(method: MethodDescriptor) -> Path:
    """Folder of the service that implements an RPC."""
    package = method.full_name.split(".")[1]
    return SERVICES / FOLDER_OF_PACKAGE.get(package, package)


@METHODS
def test_every_rpc_names_its_scope(method: MethodDescriptor) -> None:
    service, _, right = schemas.access(method).scope.partition(":")
    assert service == SCOPE_OF.get(method.full_name, owner(method).name)
    assert right in {"read", "write", "admin"}


@METHODS
def test_every_rpc_but_bidirectional_streams_has_its_route(method: MethodDescriptor) -> None:
    routes = schemas.routes(method)
    assert bool(routes) != schemas.is_bidi(method)
    for verb, path in routes:
        assert path.startswith("/v1/")
        assert not (verb == "get" and schemas.access(method).mutates)


def test_no_two_rpcs_share_a_route() -> None:
    shapes = [
        (verb, re.sub(r"\{[^}]*\}", "{}", path))
        for method in PROTO.methods
        for verb, path in schemas.routes(method)
    ]
    assert sorted(shapes) == sorted(set(shapes))


@METHODS
def test_every_change_of_state_can_be_repeated(method: MethodDescriptor) -> None:
    if not schemas.access(method).mutates:
        assert method.full_name not in KEYED_BY_CONTENT
        return
    has_id = "request_id" in method.input_type.fields_by_name
    assert has_id != (method.full_name in KEYED_BY_CONTENT)


def test_every_input_is_limited() -> None:
    found = {
        problem.partition(":")[0]: problem
        for message in schemas.input_messages(PROTO.methods).values()
        for problem in schemas.missing_limits(message)
    }
    assert [found[name] for name in sorted(found.keys() - UNLIMITED.keys())] == []
    assert sorted(UNLIMITED.keys() - found.keys()) == [], "exemptions that nothing needs"


@METHODS
def test_a_batch_without_rules_is_counted_by_its_service(method: MethodDescriptor) -> None:
    if any(schemas.is_batch(field) for field in method.input_type.fields):
        assert "check_batch" in source_tree.used_names(owner(method))


def test_an_empty_batch_is_refused_by_the_name_of_its_field() -> None:
    """By another name its sender would look for a field that there is not."""
    batches = {
        field.name
        for method in PROTO.methods
        for field in method.input_type.fields
        if schemas.is_batch(field)
    }
    seen = set()
    for call in source_tree.nodes(SERVICES):
        if isinstance(call, ast.Call) and source_tree.called_name(call) == "check_batch":
            (name,) = [
                ast.literal_eval(word.value) for word in call.keywords if word.arg == "field"
            ]
            if isinstance(call.args[0], ast.Attribute):
                assert call.args[0].attr == name
            seen.add(name)
    assert batches <= seen
    assert "items" not in seen


def test_audit_entries_are_of_known_kinds() -> None:
    """Who asks for a kind that is not listed is told that there is none, whatever the trail holds."""
    told = set()
    for node in source_tree.nodes(SERVICES):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "audit"
            and ast.unparse(node.func.value) in {"work", "self"}
        ):
            kind = node.args[0]
            if not isinstance(kind, ast.Constant):
                assert ast.unparse(kind) == "change.after.entity", "what else can it be?"
                continue
            told.add(kind.value)
    assert told | {entity.entity for entity in get_args(Entity)} | {PlanVersion.entity} == KINDS


def test_batches_are_taken_by_methods_directly() -> None:
    batches = {
        field.full_name
        for message in schemas.input_messages(PROTO.methods).values()
        for field in message.fields
        if schemas.is_batch(field)
    }
    direct = {field.full_name for method in PROTO.methods for field in method.input_type.fields}
    assert "payments.metering.v1.IngestEventsRequest.events" in batches
    assert batches <= direct, "a batch inside a message is counted by nobody"


@pytest.mark.parametrize(
    ("pattern", "bounded"),
    [
        ("^[A-Z]{3}$", True),
        ("^[A-Za-z0-9._:*+-]{1,64}$", True),
        ("^[a-z]+$", False),
        ("^(ab)*$", False),
        ("^a{2,}$", False),
        ("[A-Z]{3}", False),
        (None, False),
    ],
)
def test_a_pattern_counts_as_limit_only_if_it_is_one(pattern: str | None, bounded: bool) -> None:
    assert schemas.is_bounding_pattern(pattern) is bounded


def test_the_limit_check_sees_fields_without_limits() -> None:
    outputs = {method.output_type.full_name: method.output_type for method in PROTO.methods}
    problems = [problem for item in outputs.values() for problem in schemas.missing_limits(item)]
    assert any("no limit on its length" in problem for problem in problems)


# ---- Errors


def test_every_reason_is_raised_somewhere() -> None:
    given = {name for name, reason in schemas.reasons(PROTO).items() if not reason.is_past}
    assert sorted(given - source_tree.raised_reasons(SERVICES)) == []


def test_every_raised_reason_is_declared() -> None:
    assert (
        sorted(source_tree.declared_reasons(SERVICES).keys() - schemas.reasons(PROTO).keys()) == []
    )


def test_a_reason_that_nobody_raises_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "domain.py").write_text(
        'class Used(Exception):\n    reason = "USED"\n\n'
        'class Unused(Exception):\n    reason = "UNUSED"\n\n'
        'def fail() -> None:\n    raise Used("no")\n'
    )
    raised = source_tree.raised_reasons(tmp_path)
    assert "USED" in raised
    assert "UNUSED" not in raised
    assert source_tree.declared_reasons(tmp_path).keys() == {"USED", "UNUSED"}


# ---- Crash points


def test_every_crash_point_is_exercised() -> None:
    reachable = source_tree.crash_points(SERVICES)
    by_one_service = source_tree.used_texts(ROOT / "tests/chaos")
    exercised = crash_points.ALL | by_one_service
    assert sorted(reachable - exercised) == [], "the chaos suite kills at none of these"
    assert sorted(crash_points.AFTER_DEATH_AT.keys() - reachable) == [], "no code reaches these"
    for unit in crash_points.ELSEWHERE:
        assert any(point.startswith(f"{unit}.") for point in reachable), f"no code reaches {unit}"


def test_every_crash_point_has_a_literal_name() -> None:
    assert source_tree.unnamed_crash_points(SERVICES, NAME_PASSED_ON) == []


def test_a_new_crash_point_is_discovered(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        'crashpoint("probe.before_send")\nasync with database.unit_of_work("probe.store"): ...\n'
        "crashpoint(name)\n".replace("async with", "with")
    )
    assert source_tree.crash_points(tmp_path) == {
        "probe.before_send",
        "probe.store.before_commit",
        "probe.store.after_commit",
    }
    assert source_tree.unnamed_crash_points(tmp_path, frozenset()) == ["app.py:3"]


# ---- Background work

# Who may begin tasks; what lives as long as the process stands on a supervised loop.
BEGIN_TASKS = {
    "runtime/loops.py": "the loop itself",
    "runtime/groups.py": "a group of calls, each of which waits for it",
    "runtime/work.py": "pieces of work under a lease, waited for at a stop",
    "runtime/edge/interceptors.py": "watches one call",
    "local/mesh.py": "the start of the facade, waited for although it is cancelled",
    "events/work.py": "makes ready what one claim sends to an endpoint",
}


def test_background_work_stands_on_the_supervised_loop() -> None:
    """Groups of tasks end with their caller; a task without one could end, or hang, and nobody would know."""
    found = {
        place
        for path in source_tree.trees(SERVICES)
        if not (place := path.relative_to(SERVICES).as_posix()).startswith("cli/")
        for node in source_tree.nodes_of(path)
        if isinstance(node, ast.Attribute)
        and node.attr == "create_task"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    }
    assert found == BEGIN_TASKS.keys()


# ---- Rooms

# Folders of services/ that are no service of the mesh.
NO_SERVICE = {"cli", "gateway", "local", "runtime"}
ROOMS = (
    "__init__.py",
    "__main__.py",
    "app.py",
    "bootstrap.py",
    "domain",
    "manifest.py",
    "messages.py",
    "servicer.py",
    "store.py",
)
OWN_TABLES = ("migrations/env.py", "tables.py")

# Rooms that a service does without; each with the reason.
WITHOUT: dict[str, str] = {
    "access/migrations/env.py": "keys are the runtime's: every service reads them",
    "access/tables.py": "keys are the runtime's: every service reads them",
}


def service_folders() -> list[Path]:
    return sorted(
        path
        for path in SERVICES.iterdir()
        if path.is_dir() and path.name not in NO_SERVICE and (path / "__init__.py").exists()
    )


def test_every_service_is_found() -> None:
    assert [service.name for service in manifests.found()] == [
        folder.name for folder in service_folders()
    ]


def test_a_service_names_its_migrations_when_it_has_some() -> None:
    for service in manifests.found():
        has = (SERVICES / service.name / "migrations/env.py").exists()
        assert service.migrations == (f"services.{service.name}.migrations" if has else "")


def test_services_need_scopes_that_others_ask_for() -> None:
    known = {schemas.access(method).scope for method in PROTO.methods}
    for service in manifests.found():
        assert service.needs <= known
        own = {scope for scope in service.needs if scope.partition(":")[0] == service.name}
        assert not own, "its own scopes are for its callers"


@pytest.mark.parametrize("service", manifests.found(), ids=lambda service: service.name)
def test_a_contract_is_declared_by_the_service_that_tells_of_it(service: Manifest) -> None:
    """Whoever tells of a contract names it by a text, which no other service has."""
    others = [folder for folder in service_folders() if folder.name != service.name]
    own = [
        node.value
        for path in source_tree.trees(SERVICES / service.name)
        if path.name != "manifest.py"
        for node in source_tree.nodes_of(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for contract in service.contracts:
        assert contract.contract_id in own, "nothing tells of it"
        for folder in others:
            assert contract.contract_id not in source_tree.used_texts(folder)


def has_room(folder: Path, room: str) -> bool:
    """A room is a file, or a folder once it holds more than one noun."""
    shapes = (room, f"{room}.py", room.removesuffix(".py"))
    return any((folder / shape).exists() for shape in shapes)


@pytest.mark.parametrize("folder", service_folders(), ids=lambda folder: folder.name)
def test_every_service_has_its_rooms(folder: Path) -> None:
    missing = {f"{folder.name}/{room}" for room in ROOMS + OWN_TABLES if not has_room(folder, room)}
    exempt = {name for name in WITHOUT if name.startswith(f"{folder.name}/")}
    assert missing == exempt


@pytest.mark.parametrize("folder", service_folders(), ids=lambda folder: folder.name)
def test_every_service_says_what_it_is_for(folder: Path) -> None:
    text = (folder / "__init__.py").read_text()
    assert re.fullmatch(r'""".+?"""\n', text, re.DOTALL), "one paragraph and no code"


# ---- Files

# Written in two halves, since this file is searched too.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy.golang", "org"),
        ("sum.golang", "org"),
        ("registry.npmjs", "org"),
        ("crates", "io"),
    )
)
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:work|root)/")
# A lock file names where it found what it locks; that is its purpose.
LOCK_FILES = {"uv.lock"}
README_WORDS_MAX = 600


def tracked_files() -> list[Path]:
    """Every file under version control that still exists."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of every tracked text file."""
    for path in tracked_files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text()
        except UnicodeDecodeError:
            continue


def test_no_file_names_a_registry() -> None:
    found = [
        f"{name}: {host}"
        for name, text in texts()
        if name not in LOCK_FILES
        for host in REGISTRY_HOSTS
        if host in text
    ]
    assert found == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert [name for name, text in texts() if MACHINE_PATHS.search(text)] == []


def test_the_readme_is_short() -> None:
    words = len((ROOT / "README.md").read_text().split())
    assert 100 < words <= README_WORDS_MAX


# ---- Documents

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def documents() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, spelled as code hosts spell them."""
    headings = HEADING.findall(document.read_text())
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def broken_links(document: Path) -> Iterator[str]:
    """Links to files or headings that do not exist."""
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_every_link_of_the_documents_resolves() -> None:
    found = {path.name: broken for path in documents() if (broken := list(broken_links(path)))}
    assert found == {}


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One thing\n[x](#one-thing) [y](#other) [z](absent.md) [w](b:c)\n")
    assert list(broken_links(document)) == ["#other", "absent.md"]


def reachable(start: Path) -> set[Path]:
    """Documents that can be found from one, link by link."""
    found, left = {start}, [start]
    while left:
        document = left.pop()
        for link in LINK.findall(document.read_text()):
            target = (document.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target not in found:
                found.add(target)
                left.append(target)
    return found


def test_every_page_is_found_from_the_front_page() -> None:
    front = ROOT / "docs/README.md"
    pages = {path for path in documents() if path.is_relative_to(ROOT / "docs")}
    assert sorted(path.name for path in pages - reachable(front)) == []
    # What a reader looks for stands on the front page itself.
    shown = {
        (front.parent / link.partition("#")[0]).resolve()
        for link in LINK.findall(front.read_text())
    }
    wanted = {*front.parent.glob("*.md"), *front.parent.glob("guides/*.md")} - {front}
    wanted |= {*front.parent.glob("reference/*.md"), front.parent / "decisions/README.md"}
    assert sorted(path.name for path in wanted - shown) == []


def test_each_promise_names_tests_that_hold_it() -> None:
    text = (ROOT / "docs/promises.md").read_text()
    rows = re.findall(r"^\| (?!promise)([^|-][^|]*) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 25
    for promise, holders in rows:
        files = LINK.findall(holders)
        assert files, promise
        for file in files:
            assert (ROOT / "docs" / file).resolve().is_relative_to(ROOT / "tests"), file


# What a shell could be given; blocks of `console` are played by tests/journeys/cli/test_guides.py.
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELLS = {"sh", "bash", "shell", "zsh", "shell-session"}
COMMAND = re.compile(r"^(\$ |(tollmesh|curl|grpcurl|make|nats|psql)\b)", re.MULTILINE)


# Pages whose commands need what is built from this tree; other tests do what they say.
BUILDS = {
    "clients.md": "tests/journeys/sdk/test_installed.py builds, installs and uses what it names"
}


def unplayed(guide: str) -> list[str]:
    """First lines of blocks with a command that no test plays."""
    return [
        text.splitlines()[0]
        for kind, text in BLOCK.findall(guide)
        if kind in SHELLS or (kind.partition(" ")[0] != "console" and COMMAND.search(text))
    ]


def test_every_command_of_a_guide_is_played() -> None:
    for guide in (ROOT / "docs/guides").glob("*.md"):
        if guide.name in BUILDS:
            continue
        text = guide.read_text()
        assert unplayed(text) == [], guide.name
        assert "```console\n" in text, f"{guide.name} shows nothing to type"


def test_a_command_that_nobody_plays_is_noticed() -> None:
    guide = "```sh\nls\n```\n```\ncurl x\n```\n```console\n$ ls\na\n```\n```yaml\ncurl: 1\n```\n"
    assert unplayed(guide.replace("curl: 1", "a: 1")) == ["ls", "curl x"]


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == sorted(set(numbers))


def test_the_index_names_every_decision_once() -> None:
    folder = ROOT / "docs/decisions"
    linked = LINK.findall((folder / "README.md").read_text())
    assert sorted(linked) == sorted(path.name for path in folder.glob("[0-9]*.md"))


# A page of columns, which are narrow.
COLUMNS = frozenset({"ExportEntries"})


def test_every_page_ends_before_it_is_too_large_for_a_message() -> None:
    """Who reads a page calls what weighs its items."""
    unweighed: list[str] = []
    seen = 0
    for path in sorted(SERVICES.rglob("servicer*/**/*.py")) + sorted(SERVICES.rglob("servicer.py")):
        for node in source_tree.nodes_of(path):
            if not isinstance(node, ast.AsyncFunctionDef) or node.name in COLUMNS:
                continue
            called = ast.unparse(node)
            if "Page.of(" in called:
                seen += 1
                if not re.search(r"page\.cut\(|fitting\(|_fitted\(", called):
                    unweighed.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert (unweighed, seen > 30) == ([], True), seen


def test_yaml_is_read_in_one_place() -> None:
    """Elsewhere a key that stands twice would lose a value without a word."""
    readers = {
        path.relative_to(ROOT)
        for folder in ("services", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) (yaml|ruamel)\b", path.read_text(), re.MULTILINE)
    }
    # What is written is compared with what a plain reader makes of it.
    compared = Path("tests/unit/runtime/test_documents.py")
    assert readers == {Path("services/runtime/documents.py"), compared}
