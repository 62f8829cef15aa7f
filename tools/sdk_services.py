"""Writes the typed methods of the partners' SDK: one module a service, with a class to call it and one for asyncio.

betterproto2's own clients pass no deadline or bring a second HTTP/2 stack (decision 0021). These know no transport:
they hand each call to a caller, which adds key, deadline and retries.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from payments.options.v1 import options_pb2

from tools import validation_rules

# Changes state, and tells calls apart by when they came if their items do not say it themselves.
NOT_REPEATABLE = {"payments.contracts.v1.ContractMonitorService.RecordViolations"}
WIDTH = 100
# Of google.protobuf.FileDescriptorProto and ServiceDescriptorProto, as in paths of source locations.
_SERVICE, _METHOD = 6, 2
_HEAD = '''"""{doc}

Written by `make generate` from {file}. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

{imports}
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("Async{service}", "{service}")
'''


def write(image: bytes, folder: Path) -> None:
    """Write one module for each service of `image`, a compiled FileDescriptorSet with comments, and an index."""
    pool = validation_rules.pool_of(image)
    services = []
    folder.mkdir(parents=True)
    for file in FileDescriptorSet.FromString(image).file:
        if not file.package.startswith("payments."):
            continue
        comments = {
            tuple(place.path): place.leading_comments.strip()
            for place in file.source_code_info.location
            if place.leading_comments
        }
        for number, declared in enumerate(file.service):
            service = pool.FindFileByName(file.name).services_by_name[declared.name]
            said = {
                method.name: comments.get((_SERVICE, number, _METHOD, index), "")
                for index, method in enumerate(service.methods)
            }
            doc = comments.get((_SERVICE, number), "")
            text = "\n".join(_module(service, doc, said))
            (folder / f"{module_name(service)}.py").write_text(text + "\n")
            services.append(service)
    (folder / "__init__.py").write_text("\n".join(_index(services)) + "\n")


def module_name(service: ServiceDescriptor) -> str:
    """`contract_monitor` of ContractMonitorService."""
    return _snake(service.name.removesuffix("Service"))


def _index(services: Iterable[ServiceDescriptor]) -> Iterator[str]:
    ordered = sorted(services, key=module_name)
    yield '"""All services, each loaded when it is first used. Written by `make generate`. DO NOT EDIT!"""\n'
    yield "from __future__ import annotations\n"
    yield "from functools import cached_property"
    yield "from typing import TYPE_CHECKING\n"
    yield "from ..rpc import AsyncCaller, Caller\n"
    yield "if TYPE_CHECKING:"
    for service in ordered:
        yield f"    from .{module_name(service)} import Async{service.name}, {service.name}"
    yield '\n__all__ = ("AsyncServices", "Services")'
    for prefix in ("", "Async"):
        yield f"\n\nclass {prefix}Services:"
        how = "from an event loop" if prefix else "one call at a time"
        yield f'    """The services of a mesh, called {how}.'
        yield "\n    Args:\n        caller: makes the calls."
        yield '    """\n'
        yield f"    def __init__(self, caller: {prefix}Caller) -> None:"
        yield "        self._caller = caller"
        for service in ordered:
            name = module_name(service)
            yield "\n    @cached_property"
            yield f"    def {name}(self) -> {prefix}{service.name}:"
            yield f'        """{service.name}."""'
            yield f"        from .{name} import {prefix}{service.name}  # noqa: PLC0415\n"
            yield f"        return {prefix}{service.name}(self._caller)"


def _module(service: ServiceDescriptor, doc: str, said: dict[str, str]) -> Iterator[str]:
    packages = {service.file.package}
    for method in service.methods:
        packages |= {of.file.package for of in (method.input_type, method.output_type)}
        if field := _paged(method):
            packages.add(_item(field).file.package)
    imports = "\n".join(
        f"from ..{package.rpartition('.')[0]} import v1 as {_alias(package)}"
        for package in sorted(packages)
    )
    first = _prose(doc, 0) or service.name
    yield _HEAD.format(doc=first, file=service.file.name, imports=imports, service=service.name)
    for method in service.methods:
        repeatable = method.full_name not in NOT_REPEATABLE
        has_id = "request_id" in method.input_type.fields_by_name
        yield f"{_constant(method)} = Method("
        yield f'    "/{service.full_name}/{method.name}",'
        yield f"    {_class(method.input_type)},"
        yield f"    {_class(method.output_type)},"
        mutates = method.GetOptions().Extensions[options_pb2.access].mutates
        yield f"    repeatable={repeatable},"
        yield f"    has_request_id={has_id and mutates},"
        yield ")"
    for prefix in ("", "Async"):
        yield f"\n\nclass {prefix}{service.name}:"
        yield f'    """{_prose(doc, 4)}"""\n'
        yield f"    def __init__(self, caller: {prefix}Caller) -> None:"
        yield "        self._caller = caller"
        for method in service.methods:
            yield from _calls(method, said[method.name], asynchronous=bool(prefix))


def _calls(method: MethodDescriptor, doc: str, *, asynchronous: bool) -> Iterator[str]:
    a, name = "Async" if asynchronous else "", _snake(method.name)
    request, response = _class(method.input_type), _class(method.output_type)
    argument, kind, how = "request", request, "unary"
    answer = response
    if method.server_streaming:
        answer = f"{a}Iterator[{response}]"
        how = "both_ways" if method.client_streaming else "stream"
    if method.client_streaming:
        if not method.server_streaming:
            raise ValueError(f"{method.full_name}: only its caller streams; nothing calls that yet")
        argument, kind = "requests", f"{a}Iterable[{request}]"
    waits = asynchronous and how == "unary"
    yield f"\n    {'async ' if waits else ''}def {name}("
    yield f"        self, {argument}: {kind}, *, timeout: float | None = None"
    yield f"    ) -> {answer}:"
    yield f'        """{_prose(doc, 8)}"""'
    call = f"self._caller.{how}({_constant(method)}, {argument}, timeout)"
    yield f"        return {'await ' if waits else ''}{call}"
    field = _paged(method)
    if field is None:
        return
    pages = "BY_TOKEN" if "page_token" in method.input_type.fields_by_name else "BY_CURSOR"
    item = _class(_item(field))
    yield f"\n    def all_{_snake(method.name).removeprefix('list_')}("
    yield f"        self, request: {request}, *, timeout: float | None = None"
    yield f"    ) -> {a}Iterator[{item}]:"
    yield f'        """Yield the {field.name} of all pages of {name}, from the one that the request names.'
    yield "\n        `timeout` is that of one page."
    yield '        """'
    if asynchronous:
        yield f"\n        async def page(asked: {request}) -> {response}:"
        yield f"            return await self.{name}(asked, timeout=timeout)\n"
        yield f'        return items_async(page, request, "{field.name}", {pages})'
    else:
        yield f"\n        def page(asked: {request}) -> {response}:"
        yield f"            return self.{name}(asked, timeout=timeout)\n"
        yield f'        return items(page, request, "{field.name}", {pages})'


def _paged(method: MethodDescriptor) -> FieldDescriptor | None:
    """The list that the pages of an RPC hold; None when it has no pages, or changes something with each.

    A page without a list holds columns, which are read a page at a time.
    """
    asked, told = method.input_type.fields_by_name, method.output_type.fields_by_name
    by_token = "page_token" in asked and "next_page_token" in told
    by_cursor = "after" in asked and "next_cursor" in told
    if not (by_token or by_cursor) or method.GetOptions().Extensions[options_pb2.access].mutates:
        return None
    lists = [field for field in method.output_type.fields if field.is_repeated]
    if not lists:
        return None
    if len(lists) != 1 or lists[0].message_type is None:
        raise ValueError(f"{method.full_name}: a page holds one list of messages")
    return lists[0]


def _item(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None
    return field.message_type


def _class(message: Descriptor) -> str:
    return f"{_alias(message.file.package)}.{message.name}"


def _alias(package: str) -> str:
    return package.split(".")[1] + "_v1"


def _constant(method: MethodDescriptor) -> str:
    return "_" + _snake(method.name).upper()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _prose(comment: str, indent: int) -> str:
    """A comment as the text of a docstring; further lines indented."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", comment.strip())]
    # An example in JSON is set apart by its braces; it keeps its line.
    text = "\n\n".join(textwrap.fill(part, WIDTH - indent) for part in paragraphs)
    text = text.replace("\\", "\\\\").replace('"""', "'''")
    pad = " " * indent
    lines = text.split("\n")
    whole = "\n".join([lines[0], *(pad + line if line else "" for line in lines[1:])])
    if len(lines) > 1:
        return f"{whole}\n{pad}"
    return whole
