// Server-sent events: bytes of a response in, the JSON of each event out.

/** Splits a stream of text into the data of its events. Feed it pieces of any size. */
export class EventParser {
  #buffer = "";

  /** The data of every event that `text` completes. */
  feed(text) {
    this.#buffer += text;
    const events = [];
    for (;;) {
      const end = /\r\n\r\n|\n\n|\r\r/.exec(this.#buffer);
      if (!end) return events;
      const data = dataOf(this.#buffer.slice(0, end.index));
      this.#buffer = this.#buffer.slice(end.index + end[0].length);
      if (data !== null) events.push(data);
    }
  }
}

/** The lines `data:` of one event, joined; null of a comment. */
function dataOf(event) {
  const lines = event.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:"));
  return lines.length === 0 ? null : lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}

/**
 * The events of a response as objects, up to `[DONE]`.
 *
 * @param {AsyncIterable<Uint8Array>} chunks
 * @throws {Error} when the stream ends before `[DONE]`.
 */
export async function* eventsOf(chunks) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  for await (const chunk of chunks) {
    for (const data of parser.feed(decoder.decode(chunk, { stream: true }))) {
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
  throw new Error("The connection ended before the run did.");
}
