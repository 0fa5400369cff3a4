// The picture at the head of the page: one token from masked over partial to clean, and the legend.

import { newChip, showToken } from "./chips.js";
import { byId, element, setText } from "./dom.js";
import { diffuses } from "./settings.js";
import { figureInWords, plural, visible } from "./words.js";

const roughly = new Intl.NumberFormat("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 2 });

/** Models with fewer weights than this write little that makes sense. */
const SMALL = 20_000_000;

/** Draws the figure and the legend for a model, before anything has run. */
export function explain(model) {
  const images = model.kind === "images";
  const figure = byId("example");
  figure.closest(".intro-figure").hidden = model.subtokens === undefined || model.subtokens === 1;
  setText(byId("intro-text"), "");
  byId("intro-text").append(...sentences(model));
  byId("legend").replaceChildren(...(images ? pictureLegend(model) : textLegend(model)));
  setText(byId("about-model"), aboutModel(model));
  showExample(model, null);
}

function aboutModel({ parameters, figures = [] }) {
  const likelihood = figures.find(({ kind, unit }) => kind !== "surrogate" && unit.startsWith("bits"));
  const told = likelihood ? ` On text or pictures that it was not trained on: ${figureInWords(likelihood)}.` : "";
  return parameters === undefined ? "" : `${plural(parameters, "weight")}.${told}`;
}

function sentences(model) {
  const { subtokens, base } = model;
  const strong = (words) => element("strong", {}, words);
  const pieces = "Text is cut into tokens: words or pieces of words. ";
  if (!diffuses(model)) {
    return ["This is the autoregressive baseline: it writes from left to right, and ", strong("fills no hole that text follows"), "."];
  }
  if (subtokens === 1) {
    return [
      pieces + "A masked diffusion model begins with masks and fills them in, in any order. This one has one digit per token (ℓ = 1), " +
        "so a token is either masked or known, and ",
      strong("nothing is in between"),
      ". Models with more digits per token know tokens in part.",
    ];
  }
  const images = model.kind === "images";
  const what = images ? "colour value" : "token";
  return [
    `${images ? "" : pieces}A masked diffusion model fills ${images ? "in colour values" : "them in"}, ${orderOf(model)}. `,
    `Here every ${what} is a number of `,
    strong(`${subtokens} digits`),
    ` in base ${base}, each masked by itself. So a ${what} can be `,
    strong("known in part"),
    `: fewer are left to choose from, and the network uses what is known.`,
    smallness(model),
  ];
}

function orderOf({ block_len: block }) {
  return block > 0 ? `in blocks of ${plural(block, "token")} from left to right; within a block in any order` : "in any order";
}

/** What to expect of a model of text that is small. */
function smallness({ kind, parameters }) {
  if (kind !== "text" || !(parameters < SMALL)) return "";
  return ` This model is small (${roughly.format(parameters)} weights): expect the look of text, not its sense.`;
}

/**
 * One token of a run, if there is one to explain with, or else one that is made up of unknown digits.
 *
 * @param example what `TextRun.exampleToken` found, or null.
 */
export function showExample(model, example) {
  const { subtokens, vocab_size: all } = model;
  const masked = { kind: "masked", digits: Array(subtokens).fill(null), possible: all, piece: null };
  const states = [masked];
  if (example) states.push({ ...example.partial, kind: "partial" }, { ...example.last, kind: "clean" });
  else if (subtokens > 1) states.push(madeUp(model));
  const thing = model.kind === "images" ? "one colour value" : "one token";
  const told = example ? `How token ${example.token + 1} resolves, which is outlined below` : `How ${thing} resolves`;
  setText(byId("example-caption"), told);
  const noun = model.kind === "images" ? "value" : "token";
  byId("example").replaceChildren(...states.map((token) => stageOf(token, noun)));
}

/** A token of which the first digit is known, for instance 0. */
function madeUp({ subtokens, base, vocab_size: all }) {
  const digits = Array(subtokens).fill(null);
  digits[0] = 0;
  return { kind: "partial", digits, possible: Math.min(all, base ** (subtokens - 1)), piece: null };
}

function stageOf(token, noun) {
  const chip = newChip(token.digits.length);
  showToken(chip, token);
  const known = token.digits.filter((digit) => digit !== null).length;
  const words = token.kind === "clean" ? `clean: “${visible(token.piece)}”` : token.kind;
  const left = token.possible === null ? "" : `${plural(token.possible, noun)} possible`;
  const digits = `${known} of ${token.digits.length} digits`;
  const label = element("span", { className: "stage-label" }, element("b", {}, words));
  label.append(element("span", {}, digits), element("span", { className: "quiet" }, left));
  return element("li", {}, chip, label);
}

function textLegend(model) {
  const { subtokens, base, vocab_size: all } = model;
  const none = Array(subtokens).fill(null);
  const full = Array.from({ length: subtokens }, (_, place) => (7 * place + 1) % base);
  const some = full.map((digit, place) => (place === 0 ? digit : null));
  const entries = [
    [{ kind: "given", digits: full, possible: 1, piece: "text" }, "given by you"],
    [{ kind: "masked", digits: none, possible: all, piece: null }, "masked: nothing known"],
    [{ kind: "partial", digits: some, possible: Math.min(all, base ** (subtokens - 1)), piece: null }, "partial: fewer tokens left"],
    [{ kind: "clean", digits: full, possible: 1, piece: "word" }, "clean: filled in"],
  ];
  if (model.tokenizer?.end_of_text) {
    entries.push([{ kind: "given", digits: full, possible: 1, piece: "<end>" }, "no word: a text ends here"]);
  }
  const items = entries.filter(([token]) => token.kind !== "partial" || subtokens > 1).map(([token, words]) => {
    const swatch = newChip(subtokens);
    showToken(swatch, token);
    swatch.classList.add("swatch");
    return element("li", {}, swatch, element("span", {}, words));
  });
  const hint = "Point at a token, or tap it, to see what it can still become.";
  if (diffuses(model)) items.push(element("li", { className: "hint" }, hint));
  return items;
}

/** The parts of the meter above a picture, and what a picture shows of what is not known. */
function pictureLegend({ subtokens }) {
  const parts = [["masked", "masked: nothing known"], ["partial", "partial: some digits known"], ["clean", "clean: filled in"]];
  const items = parts.filter(([kind]) => kind !== "partial" || subtokens > 1).map(([kind, words]) => {
    const swatch = element("span", { className: "meter-part meter-swatch", "data-state": kind });
    return element("li", {}, swatch, element("span", {}, words));
  });
  const hint = "Where a colour value is not known, the mean of the values that are left is shown.";
  return [...items, element("li", { className: "hint" }, hint)];
}
