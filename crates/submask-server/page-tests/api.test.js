import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { answer, models, ServerError, stream, token } from "../page/api.js";

const kept = new Map();
globalThis.sessionStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
  removeItem: (name) => kept.delete(name),
};

/** Answers requests in turn, and keeps what was asked. */
function serve(...answers) {
  const asked = [];
  globalThis.fetch = async (path, options) => {
    asked.push({ path, ...options });
    const { status = 200, headers, body } = answers.shift();
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
  };
  return asked;
}

const error = (message, more = {}) => ({ error: { message, type: "invalid_request_error", param: null, code: null, ...more } });

afterEach(() => kept.clear());

test("models are asked for by a relative address, with a token where there is one", async () => {
  const list = { body: { data: [{ id: "m", submask: { kind: "text", subtokens: 2 } }] } };
  const asked = serve(list, list);
  assert.deepEqual(await models(), [{ id: "m", kind: "text", subtokens: 2 }]);
  token.set("secret");
  await models();
  assert.deepEqual(asked.map(({ path, headers }) => [path, headers.authorization]), [["v1/models", undefined], ["v1/models", "Bearer secret"]]);
  token.set("");
  assert.equal(token.get(), "");
});

test("an error of the server keeps its message and its field", async () => {
  serve({ status: 400, body: error("steps: 0 given", { param: "steps" }) }, { status: 500, body: "not JSON" });
  await assert.rejects(answer("v1/infill", {}), (told) => {
    assert.ok(told instanceof ServerError);
    assert.deepEqual([told.status, told.field, told.message], [400, "steps", "steps: 0 given"]);
    return true;
  });
  await assert.rejects(answer("v1/infill", {}), /status 500/);
});

test("a server without room is asked again when it says", async () => {
  const full = { status: 429, headers: { "retry-after": "0.01" }, body: error("queue full") };
  const asked = serve(full, full, { body: 'data: {"type":"done"}\n\ndata: [DONE]\n\n' });
  const waits = [];
  const events = [];
  for await (const event of stream("v1/infill", { model: "m" }, { busy: (seconds) => waits.push(seconds) })) events.push(event);
  assert.deepEqual(events, [{ type: "done" }]);
  assert.deepEqual(waits, [0.01, 0.01]);
  assert.deepEqual(JSON.parse(asked[2].body), { model: "m", stream: true });
});

test("an error in a stream ends it", async () => {
  serve({ body: `data: {"n":1}\n\ndata: ${JSON.stringify(error("too late", { type: "timeout_error" }))}\n\n` });
  const events = [];
  const read = async () => {
    for await (const event of stream("v1/infill", {})) events.push(event);
  };
  await assert.rejects(read(), (told) => told.message === "too late" && told.type === "timeout_error");
  assert.deepEqual(events, [{ n: 1 }]);
});

test("who goes away while waiting does not ask again", async () => {
  const asked = serve({ status: 503, headers: { "retry-after": "60" }, body: error("busy") });
  const aborter = new AbortController();
  setTimeout(() => aborter.abort(new Error("gone")), 5);
  const read = async () => {
    for await (const _ of stream("v1/infill", {}, { signal: aborter.signal })) assert.fail("no event was sent");
  };
  await assert.rejects(read(), /gone/);
  assert.equal(asked.length, 1);
});

test("a server that does not answer, or breaks off, is told in words", async () => {
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  await assert.rejects(models(), /does not answer. Is `submask serve` still running/);
  serve({ body: 'data: {"type":"started"}\n\n' });
  const events = stream("v1/infill", {});
  assert.equal((await events.next()).value.type, "started");
  await assert.rejects(events.next(), /ended before the run/);
  const body = new ReadableStream({ pull: (controller) => controller.error(new TypeError("network error")) });
  globalThis.fetch = async () => new Response(body);
  await assert.rejects(stream("v1/infill", {}).next(), /broke off/);
});

test("a request that was called off is no fault of the server", async () => {
  const aborter = new AbortController();
  globalThis.fetch = async () => {
    aborter.abort();
    throw aborter.signal.reason;
  };
  await assert.rejects(answer("v1/predict", {}, aborter.signal), { name: "AbortError" });
});
