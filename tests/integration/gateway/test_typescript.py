"""The OpenAPI description is read by the tools of others, and the client that is made of it bills usage."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import openapi_spec_validator

from services.runtime import documents
from tests.integration.gateway.test_http import published
from tests.support.http import examples
from tests.support.http.rest import REPOSITORY, Rest, facade
from tests.support.mesh.serving import Mesh
from tests.support.node import packages

# What a stranger's own program does beside the page's: an error, a tail that goes on, an unsafe call made again.
MORE = """
import { createTollmesh, tailEvents, TollmeshError, unwrap } from "@tollmesh/client";

const settings = { url: process.env.TOLLMESH_URL ?? "", apiKey: process.env.TOLLMESH_API_KEY ?? "" };
const client = createTollmesh(settings);
try {
  await unwrap(client.GET("/v1/billing/charges/{charge_id}", { params: { path: { charge_id: "chg_none" } } }));
} catch (error) {
  if (!(error instanceof TollmeshError)) throw error;
  console.log(error.status, error.reason, error.metadata["resource"], error.requestId.length > 0);
}

// Answers are lost on the way: the same request is sent again, and done once.
let lost = 2;
const keys: string[] = [];
const flaky = createTollmesh({ ...settings, fetch: async (request) => {
  keys.push(request.headers.get("Idempotency-Key") ?? "");
  const answer = await fetch(request);
  if (lost-- > 0) throw new TypeError("the connection broke");
  return answer;
} });
const made = await unwrap(flaky.POST("/v1/access/keys", { body: { name: "once", scopes: ["billing:read"] } }));
const listed = await unwrap(client.GET("/v1/access/keys", {}));
console.log(listed.api_keys.filter((key) => key.name === "once").length, new Set(keys).size, keys.length);
console.log(made.api_key?.name);

// A key goes with what takes one and has none, and with nothing else.
const sent: string[] = [];
const noted = createTollmesh({ ...settings, fetch: async (request) => {
  const key = request.headers.get("Idempotency-Key");
  sent.push(key === null ? "none" : key.length === 36 ? "new" : key);
  return fetch(request);
} });
const usage = { request_id: "keyless", org_id: "acme", sku: "none", quantity: "1", time: new Date().toISOString() };
await unwrap(noted.POST("/v1/metering/events", { body: [usage] }));
const spent = { period: { start_at: "2025-01-01T00:00:00Z", end_at: "2025-01-02T00:00:00Z" }, org_id: "nobody" };
await noted.POST("/v1/billing/charges", { body: spent });
await noted.POST("/v1/billing/charges", { body: { ...spent, request_id: crypto.randomUUID() } });
await noted.POST("/v1/billing/charges", { body: spent, headers: { "Idempotency-Key": "mine" } });
await noted.POST("/v1/pricing/estimate", { body: { org_id: "nobody", leads: "1" } });
await noted.GET("/v1/billing/charges", {});
console.log(sent.join());

// What JSON cannot say does not leave: it would be read as left out.
const odd: string[] = [];
for (const concurrency of [NaN, Infinity, -Infinity]) {
  const before = sent.length;
  try {
    const endpoint = { url: "https://example.com", subjects: ["payment.*"], concurrency };
    await noted.POST("/v1/webhook-endpoints", { body: endpoint });
  } catch (error) {
    odd.push(`${(error as Error).name} ${(error as Error).message} ${sent.length - before}`);
  }
}
console.log(odd.join());

// A connection that ends after each event.
let connections = 0;
const cut = createTollmesh({ ...settings, fetch: async (request) => {
  connections += 1;
  const answer = await fetch(request);
  const reader = answer.body!.getReader();
  let text = "";
  while (!text.includes("id: ") || !text.endsWith("\\n\\n")) {
    const { value } = await reader.read();
    text += new TextDecoder().decode(value);
  }
  await reader.cancel();
  const first = text.slice(0, text.indexOf("\\n\\n", text.indexOf("id: ")) + 2);
  return new Response(first, { headers: answer.headers });
} });
const seen: (string | undefined)[] = [];
for await (const { event } of tailEvents(cut, { subjects: ["stock.moved"], fromStart: true })) {
  seen.push(event?.id);
  if (seen.length === 3) break;
}
console.log(seen.join(), connections);
"""


def test_linters_find_nothing() -> None:
    openapi_spec_validator.validate(examples.description())
    packages.tools()
    said = json.loads(packages.run("npm", "run", "--silent", "lint:openapi", "--", "--format=json"))
    assert said["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, said["problems"][:5]


async def apply_quickstart(rest: Rest) -> None:
    page = REPOSITORY / "examples/quickstart/catalog.yaml"
    catalog = documents.read(page.read_bytes())
    await rest.acall("POST", "/v1/pricing/catalog", {"catalog": catalog})


async def entitlements_of_acme(rest: Rest) -> Any:
    listed = (await rest.acall("GET", "/v1/pricing/entitlements?org_id=acme")).json()
    assert len(listed["entitlements"]) == 1
    return listed


async def test_the_packed_client_bills_usage(mesh: Mesh, rest: Rest, tmp_path: Path) -> None:
    stock = {
        "subject": "stock.moved",
        "owner": "shop",
        "versions": [{"version": 1, "json_schema": "{}"}],
    }
    await rest.acall("POST", "/v1/event-types", {"event_types": [stock]})
    await published(mesh, rest, "one", "two", "three")

    await apply_quickstart(rest)
    before = await entitlements_of_acme(rest)
    readme = (packages.SDK / "README.md").read_text()
    (program,) = re.findall(r"^```ts\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert len([line for line in program.splitlines() if line.strip()]) <= 30
    archive = await asyncio.to_thread(packages.packed, tmp_path)
    user = tmp_path / "user"
    user.mkdir()
    (user / "package.json").write_text('{"type": "module", "private": true}')
    (user / "bill.ts").write_text(program)
    (user / "more.ts").write_text(MORE)
    compiler = [
        *("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom"),
        *("--types", "node", "--typeRoots", str(packages.SDK / "node_modules" / "@types")),
    ]
    env = {"TOLLMESH_URL": rest.url, "TOLLMESH_API_KEY": rest.key}

    def build() -> None:
        packages.run(
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
            str(archive),
            folder=user,
        )
        tsc = str(packages.SDK / "node_modules" / "typescript" / "bin" / "tsc")
        packages.run("node", tsc, *compiler, "bill.ts", "more.ts", folder=user)

    await asyncio.to_thread(build)
    billed = await asyncio.to_thread(packages.run, "node", "bill.js", folder=user, env=env)
    assert re.fullmatch(
        r"1 accepted, 1 again\nchg_\S+: 200 cents\ncharge\.\S+\nCHARGE_STATUS_SETTLED\n", billed
    ), billed
    again = await asyncio.to_thread(packages.run, "node", "bill.js", folder=user, env=env)
    assert again == billed.replace("1 accepted, 1 again", "0 accepted, 2 again")
    assert await entitlements_of_acme(rest) == before
    more = await asyncio.to_thread(packages.run, "node", "more.js", folder=user, env=env)
    assert more.splitlines() == [
        "404 NOT_FOUND charge true",
        "1 1 3",
        "once",
        "none,new,none,mine,none,none",
        ",".join(
            f"RangeError concurrency: {value} is no number of JSON 0"
            for value in ("NaN", "Infinity", "-Infinity")
        ),
        "one,two,three 3",
    ]
    with facade("127.0.0.1:9") as alone:
        env["TOLLMESH_URL"] = alone
        try:
            await asyncio.to_thread(packages.run, "node", "bill.js", folder=user, env=env)
        except packages.NodeFailed as error:
            assert "DEPENDENCY_UNAVAILABLE" in str(error)
        else:
            raise AssertionError("nobody is there to bill anything")
