/**
 * Typed client of the REST facade of Tollmesh. Paths, bodies and answers are those of its OpenAPI description.
 */
import createFetchClient, { type Client } from "openapi-fetch";

import { keyed } from "./keyed.js";
import type { components, paths } from "./schema.js";

export type { components, operations, paths } from "./schema.js";

/** Messages by their full name, such as `Schemas["payments.billing.v1.Charge"]`. */
export type Schemas = components["schemas"];

/** A client: `client.GET("/v1/billing/charges", …)`. */
export type Tollmesh = Client<paths, "application/json"> & { readonly settings: Settings };

export interface Options {
  /** Address of the facade, such as `http://127.0.0.1:7480`. */
  url: string;
  apiKey: string;
  /** How often a call is made again that failed in a way in which this is safe; 3 if absent. */
  retriesMax?: number;
  /** What one try may take; 30,000 if absent. */
  timeoutMs?: number;
  /** Stands in for the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

type Settings = Required<Options>;

type Status = Schemas["google.rpc.Status"];
type Detail = Status["details"][number];

const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 10_000;
/** An event of a stream is at most as large as a message; more is no event stream. */
const FRAME_CHARACTERS_MAX = 64 * 1024 * 1024;

/** A call that was refused or failed. `reason` does not change from release to release; `message` may. */
export class TollmeshError extends Error {
  override readonly name = "TollmeshError";
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly details: readonly Detail[];

  constructor(
    /** HTTP status. */
    readonly status: number,
    error: Status | undefined,
    /** Id of the call in the operator's logs. */
    readonly requestId: string,
  ) {
    super(error?.message ?? `the facade answered ${status}`);
    this.details = error?.details ?? [];
    const info = this.details.find((detail) => detail["@type"] === "type.googleapis.com/google.rpc.ErrorInfo");
    this.reason = info && "reason" in info ? info.reason : "";
    this.metadata = info && "reason" in info ? info.metadata : {};
  }
}

/**
 * Makes a client. Calls that change something get an Idempotency-Key, so that they can be made again safely; batches get
 * none, since their items are recognised by ids of their own.
 */
export function createTollmesh(options: Options): Tollmesh {
  const settings: Settings = {
    retriesMax: 3,
    timeoutMs: 30_000,
    fetch: (request) => globalThis.fetch(request),
    ...options,
    url: options.url.replace(/\/+$/, ""),
  };
  const client = createFetchClient<paths, "application/json">({
    baseUrl: settings.url,
    headers: { Authorization: `Bearer ${settings.apiKey}` },
    fetch: (request) => send(request, settings),
    bodySerializer: (body) => JSON.stringify(body, asWritten),
  });
  client.use({ onRequest: ({ request, schemaPath }) => withKey(request, schemaPath) });
  return Object.assign(client, { settings });
}

/** Refuses what JSON would turn into null, which reads as a field that is left out. */
function asWritten(name: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError(`${name}: ${value} is no number of JSON`);
  return value;
}

/** Gives a call a key that takes one and has none. */
async function withKey(request: Request, path: string): Promise<Request> {
  const takesKey = keyed.has(`${request.method} ${path}`) && !request.headers.has("Idempotency-Key");
  if (takesKey && !namesItself(await request.clone().arrayBuffer())) {
    request.headers.set("Idempotency-Key", crypto.randomUUID());
  }
  return request;
}

/** The answer of a call. Throws a TollmeshError for one that failed. */
export async function unwrap<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok || data === undefined) {
    throw new TollmeshError(response.status, asStatus(error), response.headers.get("X-Request-Id") ?? "");
  }
  return data;
}

function asStatus(error: unknown): Status | undefined {
  const isStatus = typeof error === "object" && error !== null && "details" in error && "message" in error;
  return isStatus ? (error as Status) : undefined;
}

/** Makes a call, and again what can be made again: the mesh did nothing, or does the same request only once. */
async function send(request: Request, settings: Settings): Promise<Response> {
  const body = request.body === null ? undefined : await request.arrayBuffer();
  for (let tries = 0; ; tries += 1) {
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(settings.timeoutMs)]);
    const { headers, method, url } = request;
    const last = tries >= settings.retriesMax;
    try {
      const answer = await settings.fetch(new Request(url, { method, headers, signal, ...(body && { body }) }));
      if (last || (answer.status !== 429 && answer.status !== 503)) return answer;
      await answer.body?.cancel();
      await pause(tries, request.signal, Number(answer.headers.get("Retry-After")) * 1000);
    } catch (error) {
      if (last || request.signal.aborted) throw error;
      await pause(tries, request.signal);
    }
  }
}

/** Tells whether a body has a `request_id` of its own, beside which a key would be a contradiction. */
function namesItself(body: ArrayBuffer): boolean {
  try {
    const content: unknown = JSON.parse(new TextDecoder().decode(body));
    return typeof content === "object" && content !== null && "request_id" in content;
  } catch {
    return false;
  }
}

/** Waits, longer from try to try, and never in step with others. */
function pause(tries: number, signal: AbortSignal, leastMs = 0): Promise<void> {
  const ms = Math.max(leastMs || 0, Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** tries) * (0.5 + Math.random() / 2));
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * All pages of a list, one at a time: `for await (const page of pages((page_token) => client.GET(…)))`.
 * Throws a TollmeshError when a page cannot be had.
 */
export async function* pages<T extends { next_page_token: string }>(
  ask: (pageToken: string) => Promise<{ data?: T; error?: unknown; response: Response }>,
): AsyncGenerator<T, void, undefined> {
  let token = "";
  do {
    const page = await unwrap(ask(token));
    yield page;
    token = page.next_page_token;
  } while (token);
}

export interface TailOptions {
  /** Subjects to give, such as `payment.*`; all if absent. */
  subjects?: readonly string[];
  /** Cursor behind which to begin; without it with what is committed from now on. */
  after?: string;
  /** Begin with the first event that is kept. */
  fromStart?: boolean;
  /** Ends the stream. */
  signal?: AbortSignal;
}

/** An event with the cursor behind which a later tail goes on. */
export type Tailed = Schemas["payments.events.v1.TailEventsResponse"];

/**
 * Events as they are committed, until the signal says otherwise or the reader stops. A connection that breaks is made
 * again, exactly behind the last event. Throws a TollmeshError when the tail is refused.
 */
export async function* tailEvents(client: Tollmesh, options: TailOptions = {}): AsyncGenerator<Tailed, void, undefined> {
  const ended = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal;
  const query = new URLSearchParams((options.subjects ?? []).map((subject) => ["subjects", subject]));
  if (options.after) query.set("after", options.after);
  if (options.fromStart) query.set("from_start", "true");
  let last = "";
  try {
    for (let tries = 0; !signal.aborted; tries += 1) {
      try {
        const headers = new Headers({ Accept: "text/event-stream", Authorization: `Bearer ${client.settings.apiKey}` });
        if (last) headers.set("Last-Event-ID", last);
        const request = new Request(`${client.settings.url}/v1/events:tail?${query}`, { headers, signal });
        const answer = await client.settings.fetch(request);
        if (!answer.ok || !answer.body) {
          const error = asStatus(await answer.json().catch(() => undefined));
          throw new TollmeshError(answer.status, error, answer.headers.get("X-Request-Id") ?? "");
        }
        for await (const { id, data } of frames(answer.body)) {
          yield JSON.parse(data) as Tailed;
          last = id;
          tries = 0;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof TollmeshError && error.status !== 429 && error.status !== 503) throw error;
      }
      await pause(Math.min(tries, 6), signal).catch(() => undefined);
    }
  } finally {
    ended.abort();
  }
}

/** The events of an event stream; one named `problem` only says why the stream ends. */
async function* frames(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id: string; data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const fields = new Map(text.slice(0, end).split("\n").map(field));
        text = text.slice(end + 2);
        const data = fields.get("data");
        if (data !== undefined && fields.get("event") !== "problem") yield { id: fields.get("id") ?? "", data };
      }
      if (text.length > FRAME_CHARACTERS_MAX) throw new Error("an event of the stream is too large");
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function field(line: string): [string, string] {
  const at = line.indexOf(":");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
}
