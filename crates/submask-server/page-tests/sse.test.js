import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser, eventsOf } from "../page/sse.js";

async function* cut(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function all(text, size) {
  const events = [];
  for await (const event of eventsOf(cut(new TextEncoder().encode(text), size))) events.push(event);
  return events;
}

test("events are the same however the bytes are cut", async () => {
  const text = ': keep-alive\n\ndata: {"text":"é→😀"}\n\ndata:{"n":2}\n\ndata: [DONE]\n\n';
  for (let size = 1; size <= text.length; size += 1) {
    assert.deepEqual(await all(text, size), [{ text: "é→😀" }, { n: 2 }]);
  }
});

test("lines may end in any of the three ways, and data may have several lines", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.feed("data: a\r\n\r\ndata: b\rdata: c\r\r"), ["a", "b\nc"]);
  assert.deepEqual(parser.feed("event: x\nid: 1\ndata: d\n"), []);
  assert.deepEqual(parser.feed("\n"), ["d"]);
});

test("a stream without its end is an error, and so is one that is no JSON", async () => {
  await assert.rejects(all('data: {"n":1}\n\n', 4), /ended before/);
  await assert.rejects(all("data: {n\n\ndata: [DONE]\n\n", 4), SyntaxError);
});
