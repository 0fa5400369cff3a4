// The server's interface as the page uses it. Addresses are relative, so that the page works behind a prefix.

import { eventsOf } from "./sse.js";

const TOKEN = "submask-token";
const ATTEMPTS = 8;
const SILENT = "The server does not answer. Is `submask serve` still running?";
const BROKEN = "The connection broke off before the answer was complete. Is `submask serve` still running?";

/** An error that the server told. */
export class ServerError extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.field = error?.param ?? null;
    this.type = error?.type ?? null;
  }
}

/** The token, kept until the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value === "" ? sessionStorage.removeItem(TOKEN) : sessionStorage.setItem(TOKEN, value)),
};

/**
 * @param {AbortSignal} [signal]
 * @param {(seconds: number) => void} [busy] told when the server has no room and is asked again later.
 */
async function ask(path, { body, signal, busy } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await reached(fetch(path, optionsOf(body, signal)), signal, SILENT);
    if (response.ok) return response;
    const full = response.status === 429 || response.status === 503;
    if (!full || attempt === ATTEMPTS) throw new ServerError(response.status, await errorOf(response));
    const seconds = Number(response.headers.get("retry-after")) || 1;
    busy?.(seconds);
    await pause(seconds, signal);
  }
}

/** What a promise of the network gives; where the network fails, an error in words. */
async function reached(promise, signal, words) {
  try {
    return await promise;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error(words, { cause: error });
  }
}

function optionsOf(body, signal) {
  const headers = {};
  if (token.get() !== "") headers.authorization = `Bearer ${token.get()}`;
  if (body === undefined) return { headers, signal };
  headers["content-type"] = "application/json";
  return { method: "POST", headers, body: JSON.stringify(body), signal };
}

async function errorOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return null;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** The models that are served. */
export async function models() {
  const response = await ask("v1/models");
  return (await response.json()).data.map((model) => ({ id: model.id, ...model.submask }));
}

/** The answer to a request. */
export async function answer(path, body, signal) {
  const response = await ask(path, { body, signal });
  return response.json();
}

/** The events of a request, as they come. */
export async function* stream(path, body, { signal, busy } = {}) {
  const response = await ask(path, { body: { ...body, stream: true }, signal, busy });
  for await (const event of eventsOf(chunksOf(response.body, signal))) {
    if (event.error) throw new ServerError(response.status, event.error);
    yield event;
  }
}

/** The chunks of a body, also where it is no asynchronous iterator. */
async function* chunksOf(body, signal) {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reached(reader.read(), signal, BROKEN);
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
