// The page: a model and a template are chosen, one or two runs are asked for, and shown on one clock.

import { models, ServerError, stream, token } from "./api.js";
import { Composer } from "./compose.js";
import { drawSeed, FIRST_SEED, firstTemplates, secondSettings } from "./defaults.js";
import { byId, download, element, setText, wantsStillness } from "./dom.js";
import { explain, showExample } from "./explain.js";
import { SettingsForm } from "./form.js";
import { Inspector } from "./inspector.js";
import { scoreButton, scored } from "./likelihood.js";
import { chosenOf, fragmentOf } from "./link.js";
import { Painter } from "./painter.js";
import { Panel } from "./panel.js";
import { PictureRun, TextRun } from "./replay.js";
import { jsonOf, pngOf, shownOn } from "./save.js";
import { diffuses, FieldError, summaryOf, valuesOf } from "./settings.js";
import { Stage } from "./stage.js";
import { escaped } from "./template.js";
import { wireThemes } from "./themes.js";
import { offerToken, openTokenDialog, wireTokenDialog } from "./token.js";
import { comparisonInWords, plural } from "./words.js";

/** Texts above this many tokens are scored when somebody asks for it only. */
const SCORED_AT_ONCE = 512;

const LETTERS = ["a", "b"];

const served = { models: [], model: null };
const composer = new Composer();
const painter = new Painter(() => {
  asked.picture += 1;
  showChanged();
});
const forms = Object.fromEntries(
  LETTERS.map((letter) => [letter, new SettingsForm(document.querySelector(`fieldset[data-run=${letter}]`), letter)]),
);
const inspector = new Inspector(byId("inspector"), subjectOf);
const stage = new Stage(() => inspector.refresh());
let running = { aborter: new AbortController(), runs: [] };
/** What the last run was asked for, to tell whether the form says something else by now. */
const asked = { key: null, picture: 0 };
/** Templates that are tried in the place of the first one, until the user chooses. */
let spareTemplates = [];

// --- What is chosen ------------------------------------------------------------------------------------

function isComparing() {
  return byId("compare").checked;
}

function chosen() {
  const { model } = served;
  return {
    model: model.id,
    template: model.kind === "text" ? composer.template : undefined,
    compare: isComparing(),
    clock: stage.clock,
    a: forms.a.values,
    b: forms.b.values,
  };
}

function linkOf() {
  return `${location.href.split("#")[0]}#${fragmentOf(chosen())}`;
}

/** Shows a model with its own settings and template, or with those of a link. */
function choose(model, link) {
  served.model = model;
  byId("model").value = model.id;
  explain(model);
  byId("text-source").hidden = model.kind !== "text";
  byId("image-source").hidden = model.kind !== "images";
  if (model.image) painter.setSize(model.image);
  spareTemplates = [];
  if (link) restore(link);
  else begin(model);
  if (!forms.a.values.seed) forms.a.values.seed = FIRST_SEED;
  for (const letter of LETTERS) forms[letter].build(model);
  showComparison();
}

/** The page's own beginning with a model. */
function begin(model) {
  forms.a.values = { seed: forms.a.values.seed };
  forms.b.values = {};
  if (model.kind === "text") [composer.template, ...spareTemplates] = firstTemplates(model);
}

function restore(link) {
  if (link.template !== undefined) composer.template = link.template;
  byId("compare").checked = link.compare;
  stage.clock = link.clock;
  for (const letter of LETTERS) forms[letter].set(link[letter]);
}

function showComparison() {
  if (!served.model) return;
  const compares = isComparing();
  document.querySelector("fieldset[data-run=b]").hidden = !compares;
  if (compares && Object.keys(forms.b.values).length === 0) forms.b.set(secondSettings(served.model, forms.a.values));
}

/** Says that the form asks for something else than what the stage shows. */
function showChanged() {
  byId("changed").hidden = asked.key === null || asked.key === askedKey();
}

function askedKey() {
  return `${fragmentOf({ ...chosen(), clock: undefined })} ${asked.picture}`;
}

// --- Running ---------------------------------------------------------------------------------------------

/** Asks for the runs that are chosen. `autoplay` is false where nothing should move by itself. */
async function start(autoplay = true) {
  if (!served.model) return load(false);
  clearProblems();
  let requests;
  try {
    requests = requestsOf();
  } catch (error) {
    return showError(error, error.letter);
  }
  running.aborter.abort();
  const aborter = new AbortController();
  running = { aborter, runs: requests.map((request) => newRun(request)) };
  stage.set(running.runs.map(({ panel }) => panel));
  inspector.hide();
  offerFiles();
  history.replaceState(null, "", `#${fragmentOf(chosen())}`);
  asked.key = askedKey();
  showChanged();
  byId("compare-note").hidden = requests.length < 2;
  setText(byId("compare-note"), comparisonInWords(served.model.kind, requests.map(({ body }) => body.unit)));
  if (autoplay) stage.playWhenSeen();
  await Promise.all(running.runs.map((run) => follow(run, aborter.signal)));
  if (aborter.signal.aborted) return;
  if (!autoplay) stage.seek(Math.floor(Math.max(...stage.runs.map((run) => run.frames)) / 2));
}

function requestsOf() {
  const { model } = served;
  const letters = isComparing() ? LETTERS : ["a"];
  if (model.kind === "points") throw new Error("This model draws points; this page shows text and images.");
  if (model.kind === "text" && composer.check()) throw new FieldError("template", composer.check());
  if (painter.isEmpty && model.kind === "images") throw new Error("Nothing of the picture is painted over: paint, or remove it.");
  return letters.map((letter) => ({ letter, body: bodyOf(letter) }));
}

function bodyOf(letter) {
  const { model } = served;
  try {
    const values = valuesOf(model, forms[letter].values);
    if (model.kind === "images") return { model: model.id, ...values, ...painter.request() };
    const length = composer.length ?? values.length ?? model.seq_len;
    const scored = length <= SCORED_AT_ONCE ? { score: {} } : {};
    return { model: model.id, template: composer.template, ...values, ...scored };
  } catch (error) {
    error.letter = letter;
    throw error;
  }
}

function newRun({ letter, body }) {
  const { model } = served;
  const run = model.kind === "images" ? new PictureRun(painter.kept) : new TextRun(model.vocab_size);
  const summary = summaryOf(model, forms[letter].values);
  const panel = new Panel({ letter: letter.toUpperCase(), summary, run, model, reuse });
  inspector.watch(panel.body);
  return { letter, body, run, panel, summary, model, events: [], score: null, id: crypto.randomUUID?.() ?? String(Math.random()) };
}

/** A result becomes the text, in which holes can be made. */
function reuse(text) {
  composer.template = escaped(text);
  composer.area.focus();
}

/** Takes the events of a run as they come. */
async function follow(each, signal) {
  const { run, panel, body, events, model } = each;
  const path = model.kind === "images" ? "v1/images" : "v1/infill";
  const busy = (seconds) => panel.say(`The server has no room; asking again in ${plural(seconds, "second")} …`);
  try {
    for await (const event of stream(path, body, { signal, busy })) {
      if (signal.aborted) return;
      events.push(event);
      run.take(event);
      if (event.type === "started") panel.started();
      if (event.type === "finished") finished(each, signal);
      if (event.type === "scored") scored(each, event.score);
      stage.renderSoon();
    }
  } catch (error) {
    if (signal.aborted) return;
    if (run.finished) return panel.notScored(`No likelihood: ${error.message}`);
    if (body.score && error.field?.startsWith("score")) {
      delete body.score;
      return follow(each, signal);
    }
    failed(each, error);
  }
}

function finished(each, signal) {
  const { run, panel, model } = each;
  panel.finished();
  offerFiles();
  if (run.kind !== "text") return;
  learnLengths(run.finished);
  if (each.letter === "a") {
    const example = run.exampleToken();
    showExample(model, example);
    panel.outline(example?.token);
  }
  if (!each.body.score) panel.notScored(scoreButton(each, signal));
}

/** How long this model's tokens are, for holes made of a selection. */
function learnLengths({ text, tokens }) {
  if (tokens?.length >= 8 && text.length > 0) composer.charactersPerToken = Math.max(1, Math.min(8, text.length / tokens.length));
}

function failed(each, error) {
  if (error.status === 400 && spareTemplates.length > 0) {
    composer.template = spareTemplates.shift();
    start(!wantsStillness());
    return;
  }
  stage.pause();
  if (showAtField(error, each.letter)) each.panel.say("Not run: the marked field says why.", true);
  else each.panel.say(error.message, true);
}

// --- Errors -----------------------------------------------------------------------------------------------

function clearProblems() {
  byId("problem").hidden = true;
  composer.complain("");
  for (const letter of LETTERS) forms[letter].clearComplaints();
}

/** Shows an error at its field, or below the form. */
function showError(error, letter = "a") {
  stage.pause();
  if (!showAtField(error, letter)) complain(error.message);
}

/** Shows an error at what it is about, if it is about a field or the access token. */
function showAtField(error, letter) {
  if (error instanceof ServerError && error.status === 401) {
    askForToken(error);
    return false;
  }
  if (["template", "prompt"].includes(error.field)) {
    composer.complain(error.message);
    return true;
  }
  return Boolean(error.field) && forms[letter].complain(error.field, error.message);
}

/** Says below the form what is wrong. */
function complain(message) {
  byId("problem").hidden = false;
  setText(byId("problem"), message);
}

function askForToken(error) {
  offerToken(true);
  openTokenDialog(token.get() === "" ? null : error.message);
}

// --- What is on the stage ----------------------------------------------------------------------------------

/** What the inspector is to tell of a chip. */
function subjectOf(chip) {
  const letter = chip.closest(".panel").dataset.run;
  const each = running.runs.find((run) => run.letter === letter);
  const { frame } = each.panel;
  const index = Number(chip.dataset.token);
  return {
    id: each.id,
    run: each.run,
    frame,
    index,
    model: each.model.id,
    vocabSize: each.model.vocab_size,
    predicts: diffuses(each.model),
    token: { ...each.run.token(index, frame), isStart: each.run.isStart(index) },
    since: each.run.since(index),
    label: `${letter.toUpperCase()}, token ${index + 1}`,
  };
}

function offerFiles() {
  const complete = running.runs.length > 0 && running.runs.every(({ run }) => run.finished);
  byId("save-json").disabled = !complete;
  byId("save-png").disabled = !complete;
  byId("use-result").disabled = !(complete && served.model.kind === "images");
}

function fileName(ending) {
  return `${served.model.id.replace(/[^\w.-]+/g, "-")}-${forms.a.values.seed || 0}.${ending}`;
}

function saveJson() {
  const runs = running.runs.map(({ letter, body, events, score: told }) => ({ run: letter, request: body, events, score: told }));
  download(fileName("json"), jsonOf({ link: linkOf(), model: served.model, runs }));
  setText(byId("share-state"), "JSON saved.");
}

async function savePng() {
  const { model } = served;
  const panels = running.runs.map(({ panel, summary }) => shownOn(panel, summary));
  download(fileName("png"), await pngOf(panels, model.kind === "text" ? `${model.id}: ${composer.template}` : model.id));
  setText(byId("share-state"), "PNG saved.");
}

async function share() {
  const link = linkOf();
  history.replaceState(null, "", `#${fragmentOf(chosen())}`);
  const picture = "image" in painter.request() ? " The picture and its mask are not part of it." : "";
  try {
    await navigator.clipboard.writeText(link);
    setText(byId("share-state"), `Link copied.${picture}`);
  } catch {
    byId("link-box").hidden = false;
    byId("link").value = link;
    byId("link").select();
    setText(byId("share-state"), `Copy the link below.${picture}`);
  }
}

// --- The page ------------------------------------------------------------------------------------------------

function wire() {
  byId("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    const { runs } = running;
    start();
    // What is wrong with the form is told there instead.
    if (running.runs !== runs) stage.bringIn();
  });
  byId("model").addEventListener("change", () => {
    choose(served.models.find((model) => model.id === byId("model").value), null);
    start(!wantsStillness());
  });
  byId("compose").addEventListener("input", () => {
    byId("problem").hidden = true;
    showChanged();
  });
  byId("new-seed").addEventListener("click", newSeed);
  byId("compare").addEventListener("change", () => {
    showComparison();
    start();
  });
  composer.area.addEventListener("input", () => (spareTemplates = []));
  byId("share").addEventListener("click", share);
  byId("save-json").addEventListener("click", saveJson);
  byId("save-png").addEventListener("click", () => savePng().catch((error) => showError(error)));
  byId("use-result").addEventListener("click", useResult);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("stage").focus();
  });
  byId("settings").open = matchMedia("(min-width: 52rem)").matches;
  addEventListener("hashchange", () => load(false));
  wireTokenDialog(() => {
    offerToken(true);
    load(served.models.length > 0);
  });
  wireThemes();
}

/** Draws a seed; runs that shared one still do. */
function newSeed() {
  const shared = (forms.b.values.seed || "0") === (forms.a.values.seed || "0");
  const seed = drawSeed();
  forms.a.setOne("seed", seed);
  if (isComparing()) forms.b.setOne("seed", shared ? seed : drawSeed());
  start();
}

async function useResult() {
  const picture = running.runs[0].run.finished.b64_json;
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  await painter.take(new Blob([bytes], { type: "image/png" }));
  // With the same seed, what is painted over would be drawn just as it was.
  forms.a.setOne("seed", drawSeed());
  showChanged();
}

/** Says on the stage why there is nothing on it. */
function showNothing(error) {
  if (served.models.length > 0) return showError(error);
  if (!showAtField(error, "a") && error.status !== 401) complain(error.message);
  const words = error.status === 401 ? "The server asks for an access token. " : error.message;
  const status = element("p", { className: "panel-status" }, words);
  if (error.status === 401) {
    const button = element("button", { type: "button" }, "Enter it");
    button.addEventListener("click", () => openTokenDialog());
    status.append(button);
  }
  byId("panels").replaceChildren(element("div", { className: "card panel" }, status));
  return undefined;
}

/** Asks for the models, and runs what the address or the page's own beginning says. `keeps`: what is chosen stays. */
async function load(keeps) {
  const { chosen: link, unknown } = keeps ? { chosen: chosen(), unknown: [] } : chosenOf(location.hash);
  try {
    served.models = await models();
  } catch (error) {
    return showNothing(error);
  }
  clearProblems();
  if (served.models.length === 0) return showError(new Error("The server has no models."));
  byId("model").replaceChildren(...served.models.map(({ id }) => element("option", { value: id }, id)));
  const model = link?.model ? served.models.find(({ id }) => id === link.model) : preferred();
  if (!model) {
    choose(preferred(), null);
    return showError(new Error(`The link names the model “${link.model}”, which this server does not have.`));
  }
  choose(model, link);
  const run = start(!wantsStillness());
  if (unknown.length > 0) complain(`The link has settings that this page does not know: ${unknown.join(", ")}.`);
  return run;
}

/** The model that shows best what this page is about. */
function preferred() {
  const partial = served.models.find((model) => model.kind === "text" && diffuses(model) && model.subtokens > 1);
  return partial ?? served.models.find((model) => model.kind === "text") ?? served.models[0];
}

wire();
load(false);
