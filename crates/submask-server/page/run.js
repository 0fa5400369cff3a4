// A run that the server was asked for: its panel, and its events as they come.

import { stream } from "./api.js";
import { scoreButton, scored } from "./likelihood.js";
import { Panel } from "./panel.js";
import { PictureRun, TextRun } from "./replay.js";
import { plural } from "./words.js";

/** A run of a request of `Choice.requests`; `reuse` is called with the text of its result when it is to be the next text. */
export function newRun({ letter, body, summary }, model, reuse) {
  const run = model.kind === "images" ? new PictureRun() : new TextRun(model.vocab_size);
  const panel = new Panel({ letter: letter.toUpperCase(), summary, run, model, reuse });
  return { letter, body, run, panel, summary, model, events: [], score: null, id: crypto.randomUUID?.() ?? String(Math.random()) };
}

/**
 * Takes the events of a run as they come.
 *
 * @param signal ends it.
 * @param told functions: `changed()` after every event, `finished(run)`, and `failed(run, error)`.
 */
export async function follow(each, signal, told) {
  const { run, panel, body, events, model } = each;
  const path = model.kind === "images" ? "v1/images" : "v1/infill";
  const busy = (seconds) => panel.say(`The server has no room; asking again in ${plural(seconds, "second")} …`);
  try {
    for await (const event of stream(path, body, { signal, busy })) {
      if (signal.aborted) return;
      events.push(event);
      run.take(event);
      if (event.type === "started") panel.started();
      if (event.type === "finished") finished(each, signal, told);
      if (event.type === "scored") scored(each, event.score);
      told.changed();
    }
  } catch (error) {
    if (signal.aborted) return;
    if (run.finished) return panel.notScored(`No likelihood: ${error.message}`);
    if (body.score && error.field?.startsWith("score")) {
      delete body.score;
      return follow(each, signal, told);
    }
    told.failed(each, error);
  }
}

function finished(each, signal, told) {
  const { run, panel, body } = each;
  panel.finished();
  told.finished(each);
  if (run.kind === "text" && !body.score) panel.notScored(scoreButton(each, signal));
}
