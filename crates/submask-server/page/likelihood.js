// How likely the text of a run is: told with the run, or, of long texts, when somebody asks.

import { answer } from "./api.js";
import { element } from "./dom.js";

/** Shows the score of a run; null is that of an empty text. */
export function scored(each, score) {
  each.score = score;
  if (score) each.panel.scored(score);
  else each.panel.notScored("An empty text has no likelihood to show.");
}

/** A button that has a finished run scored. */
export function scoreButton(each, signal) {
  const button = element("button", { type: "button" }, "How likely is it?");
  button.addEventListener("click", () => ask(each, signal));
  return button;
}

/** Scores the very tokens of a run: the same request gives them again. */
async function ask(each, signal) {
  const { panel, body } = each;
  panel.notScored("Drawing it once more to score it …");
  try {
    const { choices } = await answer("v1/infill", { ...body, score: {} }, signal);
    scored(each, choices[0].score);
  } catch (error) {
    if (!signal.aborted) panel.notScored(`No likelihood: ${error.message}`);
  }
}
