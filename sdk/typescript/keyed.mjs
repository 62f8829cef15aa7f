// Writes src/keyed.ts: the calls that take an Idempotency-Key, as the OpenAPI description has it.
import fs from "node:fs";

const KEY = "#/components/parameters/IdempotencyKey";
const description = JSON.parse(fs.readFileSync("../../gen/openapi/tollmesh.openapi.json", "utf8"));
const keyed = Object.entries(description.paths).flatMap(([path, operations]) =>
  Object.entries(operations)
    .filter(([, operation]) => operation.parameters?.some((parameter) => parameter.$ref === KEY))
    .map(([method]) => `${method.toUpperCase()} ${path}`),
);
if (keyed.length === 0) throw new Error(`the description names no call with ${KEY}`);
fs.writeFileSync(
  "src/keyed.ts",
  `// Written by keyed.mjs.
/** Calls that take an Idempotency-Key, as \`POST /v1/billing/charges\`. */
export const keyed: ReadonlySet<string> = new Set(${JSON.stringify(keyed.sort(), null, 2)});
`,
);
