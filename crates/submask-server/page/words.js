// Numbers and states in words.

import { isSign } from "./replay.js";

const whole = new Intl.NumberFormat("en");

/** 4096 as “4,096”. */
export function count(number) {
  return whole.format(number);
}

/** “1 token”, “5 tokens”. */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A probability as a percentage. */
export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "< 0.1 %";
  return `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;
}

/** A piece of text as it can be seen: spaces and line ends where nothing else would show. */
export function visible(piece) {
  if (piece === null || piece === undefined) return "";
  if (piece === "") return "∅";
  if (isSign(piece)) return piece.includes("end") || piece === "</s>" ? "end" : piece.slice(1, -1);
  const shown = piece.replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥");
  return shown.trim() === "" ? shown.replaceAll(" ", "␣") : shown.replace(/^ +| +$/g, "");
}

/** How far a token is, in words. */
export function stateInWords(token) {
  const known = token.digits.filter((digit) => digit !== null).length;
  const digits = `${known} of ${token.digits.length} digits known`;
  const left = token.possible === null ? "" : `, ${plural(token.possible, "token")} possible`;
  if (token.isStart) return "given: the end of another text, behind which this one begins";
  switch (token.kind) {
    case "given":
      return `given: ${spoken(token.piece)}`;
    case "clean":
      return `clean: ${spoken(token.piece)}`;
    case "partial":
      return `partial, ${digits}${left}`;
    default:
      return `masked${left}`;
  }
}

/** “5 masked, 2 partial, 13 clean”. */
export function countsInWords({ masked, partial, clean }) {
  return `${count(masked)} masked, ${count(partial)} partial, ${count(clean)} clean`;
}

/** How far a picture is, in a sentence. */
export function valuesInWords({ known, counts }) {
  const all = counts.masked + counts.partial + counts.clean;
  return `Of ${plural(all, "colour value")} to fill in ${countsInWords(counts)}; ${percent(known)} of their digits known.`;
}

function spoken(piece) {
  const shown = visible(piece);
  return shown === "" ? "no text" : `“${shown}”`;
}

const kinds = {
  exact: { sign: "=", words: "exact" },
  upper_bound: { sign: "≤", words: "upper bound" },
};

/** A figure of a model with its unit and kind, such as “2.60 ± 0.02 bits per character (upper bound)”. */
export function figureInWords({ value, unit, kind, standard_error: error }) {
  const errorWords = error > 0 ? ` ± ${error.toFixed(2)}` : "";
  return `${value.toFixed(2)}${errorWords} ${unit} (${kinds[kind]?.words ?? "surrogate, no likelihood"})`;
}

/**
 * A score in words: `{value, kind, more}`, so that no number stands without what it is. Bits per character are made of likelihoods
 * only.
 */
export function scoreInWords(score) {
  const kind = kinds[score.kind];
  const error = score.standard_error > 0 ? ` ± ${score.standard_error.toFixed(2)}` : "";
  const number = `${score.nats.toFixed(2)}${error} nats`;
  const estimator = score.estimator.replaceAll(/[_-]/g, " ").replace(/^exact /, "");
  if (!kind) return { value: number, kind: `surrogate, no likelihood (${estimator})`, more: "" };
  const bits = score.characters ? score.nats / (score.characters * Math.LN2) : null;
  return {
    value: `−log p ${kind.sign} ${number}`,
    kind: `${kind.words} (${estimator})`,
    more: bits === null ? "" : `${bits.toFixed(2)} bits per character`,
  };
}

/** How two runs can be compared; `units` are what each reveals at once, digits where nothing is said. */
export function comparisonInWords(kind, units) {
  const differ = new Set(units.map((unit) => unit ?? "digits")).size > 1;
  const more = differ ? "Digits take more evaluations than whole tokens, and each of them decides less. " : "";
  if (kind !== "text") return `${more}One picture proves nothing.`;
  return `${more}One text proves nothing, and likelihoods that differ by no more than their errors do not differ.`;
}

/**
 * Runs of given and filled-in text that make up the choice's text; null where the pieces do not. Signs such as the end of text
 * belong to no run where the text leaves them out.
 */
export function markedOf({ text, pieces, given }) {
  const runs = [];
  let made = "";
  for (let i = 0; i < (pieces?.length ?? 0) && made !== text; i += 1) {
    const piece = pieces[i] ?? "";
    if (!text.startsWith(made + piece)) {
      if (made === "" || isSign(piece)) continue;
      return null;
    }
    made += piece;
    const last = runs[runs.length - 1];
    if (last && last.given === given[i]) last.text += piece;
    else if (piece !== "") runs.push({ text: piece, given: given[i] });
  }
  return made === text && text !== "" ? runs : null;
}
