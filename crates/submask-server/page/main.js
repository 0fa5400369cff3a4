// The page: a model and a template are chosen, one or two runs are asked for, and shown on one clock.

import { models } from "./api.js";
import { Choice } from "./choice.js";
import { byId, element, setText, wantsStillness } from "./dom.js";
import { showExample } from "./explain.js";
import { Inspector } from "./inspector.js";
import { chosenOf } from "./link.js";
import { Problems } from "./problems.js";
import { follow, newRun } from "./run.js";
import { diffuses } from "./settings.js";
import { offerFiles, showInAddress, wireSharing } from "./share.js";
import { Stage } from "./stage.js";
import { escaped } from "./template.js";
import { wireThemes } from "./themes.js";
import { offerToken, wireTokenDialog } from "./token.js";
import { comparisonInWords } from "./words.js";

/** The models that the server has. */
let served = [];
const inspector = new Inspector(byId("inspector"), subjectOf);
const stage = new Stage(() => inspector.refresh());
const choice = new Choice(stage, showChanged);
const problems = new Problems(choice, stage);
let running = { aborter: new AbortController(), runs: [] };
/** What the last run was asked for, to tell whether the form says something else by now. */
let askedKey = null;

// --- Running ---------------------------------------------------------------------------------------------

/** Says that the form asks for something else than what the stage shows. */
function showChanged() {
  byId("changed").hidden = askedKey === null || askedKey === choice.key;
}

/** Asks for the runs that are chosen. `autoplay` is false where nothing should move by itself. */
async function start(autoplay = true) {
  if (!choice.model) return load(false);
  problems.clear();
  let requests;
  try {
    requests = choice.requests();
  } catch (error) {
    return problems.show(error, error.letter);
  }
  const signal = putOnStage(requests);
  if (autoplay) stage.playWhenSeen();
  const told = { changed: () => stage.renderSoon(), finished, failed };
  await Promise.all(running.runs.map((run) => follow(run, signal, told)));
  if (signal.aborted) return;
  if (!autoplay) stage.seek(Math.floor(Math.max(...stage.runs.map((run) => run.frames)) / 2));
}

/** Puts new runs in the place of the last ones, which end; the signal ends the new ones. */
function putOnStage(requests) {
  const { model } = choice;
  running.aborter.abort();
  running = { aborter: new AbortController(), runs: requests.map((request) => newRun(request, model, reuse)) };
  for (const { panel } of running.runs) inspector.watch(panel.body);
  stage.set(running.runs.map(({ panel }) => panel));
  inspector.hide();
  offerFiles(choice, running.runs);
  showInAddress(choice);
  askedKey = choice.key;
  showChanged();
  byId("compare-note").hidden = requests.length < 2;
  setText(byId("compare-note"), comparisonInWords(model.kind, requests.map(({ body }) => body.unit)));
  return running.aborter.signal;
}

/** A result becomes the text, in which holes can be made. */
function reuse(text) {
  choice.composer.template = escaped(text);
  choice.composer.area.focus();
}

function finished({ run, panel, model, letter }) {
  offerFiles(choice, running.runs);
  if (run.kind !== "text") return;
  learnLengths(run.finished);
  if (letter !== "a") return;
  const example = run.exampleToken();
  showExample(model, example);
  panel.outline(example?.token);
}

/** How long this model's tokens are, for holes made of a selection. */
function learnLengths({ text, tokens }) {
  if (tokens.length < 8 || text.length === 0) return;
  choice.composer.charactersPerToken = Math.max(1, Math.min(8, text.length / tokens.length));
}

function failed({ letter, panel }, error) {
  if (error.status === 400 && choice.spareTemplates.length > 0) {
    choice.composer.template = choice.spareTemplates.shift();
    start(!wantsStillness());
    return;
  }
  stage.pause();
  if (problems.showAtField(error, letter)) panel.say("Not run: the marked field says why.", true);
  else panel.say(error.message, true);
}

/** What the inspector is to tell of a chip. */
function subjectOf(chip) {
  const letter = chip.closest(".panel").dataset.run;
  const { id, run, panel, model } = running.runs.find((each) => each.letter === letter);
  const { frame } = panel;
  const index = Number(chip.dataset.token);
  return {
    id,
    run,
    frame,
    index,
    model: model.id,
    vocabSize: model.vocab_size,
    predicts: diffuses(model),
    token: { ...run.token(index, frame), isStart: run.isStart(index) },
    since: run.since(index),
    label: `${letter.toUpperCase()}, token ${index + 1}`,
  };
}

// --- The page ------------------------------------------------------------------------------------------------

function wire() {
  wireForm();
  byId("model").addEventListener("change", () => {
    choice.choose(served.find((model) => model.id === byId("model").value), null);
    start(!wantsStillness());
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("stage").focus();
  });
  byId("settings").open = matchMedia("(min-width: 52rem)").matches;
  addEventListener("hashchange", () => load(false));
  wireSharing(choice, () => running.runs, problems);
  wireTokenDialog(() => {
    offerToken(true);
    load(served.length > 0);
  });
  wireThemes();
}

function wireForm() {
  byId("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    const { runs } = running;
    start();
    // What is wrong with the form is told there instead.
    if (running.runs !== runs) stage.bringIn();
  });
  byId("compose").addEventListener("input", () => {
    problems.hide();
    showChanged();
  });
  byId("new-seed").addEventListener("click", () => {
    choice.drawSeed();
    start();
  });
  byId("compare").addEventListener("change", () => {
    choice.showComparison();
    start();
  });
  byId("use-result").addEventListener("click", async () => {
    await choice.takePicture(running.runs[0].run.finished.b64_json);
    showChanged();
  });
}

/** Asks for the models, and runs what the address or the page's own beginning says. `keeps`: what is chosen stays. */
async function load(keeps) {
  const { chosen: link, unknown } = keeps ? { chosen: choice.settings, unknown: [] } : chosenOf(location.hash);
  try {
    served = await models();
  } catch (error) {
    return served.length > 0 ? problems.show(error) : problems.showOnStage(error);
  }
  problems.clear();
  if (served.length === 0) return problems.show(new Error("The server has no models."));
  byId("model").replaceChildren(...served.map(({ id }) => element("option", { value: id }, id)));
  const model = link?.model ? served.find(({ id }) => id === link.model) : preferred();
  if (!model) {
    choice.choose(preferred(), null);
    return problems.show(new Error(`The link names the model “${link.model}”, which this server does not have.`));
  }
  choice.choose(model, link);
  const wrong = keeps ? null : await choice.restorePicture(link?.picture);
  const run = start(!wantsStillness());
  const lost = unknown.length > 0 ? `The link has settings that this page does not know: ${unknown.join(", ")}.` : null;
  if (lost ?? wrong) problems.complain([lost, wrong].filter(Boolean).join(" "));
  return run;
}

/** The model that shows best what this page is about. */
function preferred() {
  const partial = served.find((model) => model.kind === "text" && diffuses(model) && model.subtokens > 1);
  return partial ?? served.find((model) => model.kind === "text") ?? served[0];
}

wire();
load(false);
