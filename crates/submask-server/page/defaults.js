// What a page begins with, so that a first run shows something without a choice.

import { diffuses } from "./settings.js";

/** The seed of the first run. */
export const FIRST_SEED = "3";

/** A hole that every model of text can fill in. */
const PLAIN = "[[16]]";

/**
 * Templates to begin with, the best first; where a model refuses one, as its alphabet may have to, the next is tried. Most
 * tokens begin with their space, so none stands before a hole.
 */
export function firstTemplates(model) {
  const holes = (long) => Math.max(1, Math.min(long, Math.floor((model.longest_text ?? model.seq_len) / 3)));
  const plain = model.longest_text < 20 ? `[[${holes(16)}]]` : PLAIN;
  if (model.longest_text < 24) return [plain];
  const tokenizer = model.tokenizer?.kind;
  if (tokenizer === "numbers") return [plain];
  if (model.block_len > 0) return ["lantern:[[*]]", "[[*]]"];
  if (!diffuses(model)) return ["lantern:[[16]]", "the[[16]]", plain];
  if (tokenizer === "text8") return [`the light of the [[${holes(12)}]] in the [[${holes(12)}]]`, plain];
  return ["lantern:[[12]] light.", "the[[12]] light", plain];
}

/** Settings of a second run that show the difference: whole tokens where the first reveals digits, or else another seed. */
export function secondSettings(model, first) {
  const byDigits = (first.unit || "digits") === "digits";
  if (byDigits && model.kind === "text" && diffuses(model) && model.subtokens > 1) return { ...first, unit: "tokens" };
  return { ...first, seed: String((Number(first.seed) || 0) + 1) };
}

/** A seed that is easy to read and to type. */
export function drawSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0] % 100_000);
}
