import assert from "node:assert/strict";
import { test } from "node:test";
import { firstTemplates, secondSettings } from "../page/defaults.js";
import { flow, wrap } from "../page/layout.js";
import { chosenOf, fragmentOf } from "../page/link.js";
import { brushed, line } from "../page/painter.js";
import { FieldError, fieldsFor, summaryOf, valuesOf } from "../page/settings.js";
import { problemOf } from "../page/template.js";
import { comparisonInWords, figureInWords, markedOf, percent, scoreInWords, stateInWords, visible } from "../page/words.js";

const model = {
  id: "dictionary",
  kind: "text",
  network: "diffusion",
  subtokens: 2,
  vocab_size: 4096,
  longest_text: 128,
  orders: ["random", "left-to-right"],
  sampling: { steps: 256, temperature: 0.6, top_p: 0.9, top_k: 0 },
};

test("only what was typed is asked for, and a seed", () => {
  assert.deepEqual(valuesOf(model, {}), { seed: 0 });
  const typed = { seed: " 7 ", steps: "64", temperature: "0.5", top_p: "0.9", unit: "tokens" };
  assert.deepEqual(valuesOf(model, typed), { seed: 7, steps: 64, temperature: 0.5, top_p: 0.9, unit: "tokens" });
  assert.deepEqual(valuesOf(model, { steps: "first-hitting", temperature: "-0.2, 0.75, 1" }), {
    seed: 0,
    steps: 0,
    temperature: [-0.2, 0.75, 1],
  });
});

test("steps go with the random order, units per evaluation with the others", () => {
  const settings = { order: "left-to-right", steps: "64", per_step: "2" };
  assert.deepEqual(valuesOf(model, settings), { order: "left-to-right", per_step: 2, seed: 0 });
  assert.deepEqual(valuesOf(model, { ...settings, order: "random" }), { order: "random", steps: 64, seed: 0 });
});

test("the baseline has a seed and sharpening only, and one digit has no unit", () => {
  const keys = (other) => fieldsFor({ ...model, ...other }, {}).map(({ key }) => key);
  assert.deepEqual(keys({ network: "autoregressive" }), ["seed", "temperature", "top_p", "top_k", "length"]);
  assert.ok(!keys({ subtokens: 1 }).includes("unit"));
  assert.ok(keys({ kind: "images", classes: ["cat"] }).includes("label"));
});

test("a wrong value is refused with its field and what is allowed", () => {
  const wrong = [["seed", "-1"], ["seed", "9007199254740992"], ["steps", "0"], ["steps", "1e3"], ["top_p", "0"], ["top_p", "1.1"]];
  wrong.push(["temperature", "-1"], ["temperature", "1,2"], ["top_k", "x"], ["temperature", "1,,2"]);
  for (const [field, value] of wrong) {
    assert.throws(() => valuesOf(model, { [field]: value }), (error) => {
      assert.ok(error instanceof FieldError);
      assert.equal(error.field, field);
      return error.message.includes(`“${value}”`);
    });
  }
});

test("a warp, a corrector and a window are sent as the server has them", () => {
  const blocks = { ...model, block_len: 16 };
  assert.deepEqual(valuesOf(blocks, { warp: "1, 2, 0", corrector: "4, 0.5", window: "recomputed" }), {
    seed: 0,
    warp: [1, 2, 0],
    corrector: [4, 0.5, 0],
    window: "recomputed",
  });
  assert.deepEqual(valuesOf(model, { warp: "off", corrector: "off" }), { seed: 0, warp: [1, 0, 0], corrector: "off" });
  assert.deepEqual(valuesOf(model, { corrector: "4,0.5,2" }).corrector, [4, 0.5, 2]);
  const wrong = [["warp", "1, 2"], ["warp", "1,,2"], ["warp", "no"], ["warp", "1,2,Infinity"]];
  wrong.push(["corrector", "4"], ["corrector", "-1, 1"], ["corrector", "1, -1"], ["corrector", "1,2,3,4"], ["corrector", "on"]);
  for (const [field, value] of wrong) {
    assert.throws(() => valuesOf(model, { [field]: value }), (error) => {
      return error instanceof FieldError && error.field === field && error.message.includes(`“${value}”`);
    });
  }
  assert.match(summaryOf(blocks, { corrector: "4, 0.5", warp: "1, 2, 0" }), / · warp 1, 2, 0 · corrector 4, 0\.5$/);
});

test("warp and corrector show where there is a grid of steps, and a window where there are blocks", () => {
  const shown = (other, settings = {}) => {
    const keys = fieldsFor({ ...model, ...other }, settings).map(({ key }) => key);
    return ["warp", "corrector", "window"].filter((key) => keys.includes(key));
  };
  assert.deepEqual(shown({}), ["warp", "corrector"]);
  assert.deepEqual(shown({ block_len: 16 }), ["warp", "corrector", "window"]);
  assert.deepEqual(shown({}, { unit: "tokens" }), ["warp"]);
  assert.deepEqual(shown({}, { order: "left-to-right" }), []);
  assert.deepEqual(shown({}, { steps: "first-hitting" }), []);
  assert.deepEqual(shown({ network: "autoregressive" }), []);
  assert.deepEqual(shown({ sampling: { steps: 0 } }), []);
  assert.deepEqual(shown({ sampling: { steps: 0 } }, { steps: "16" }), ["warp", "corrector"]);
  // A model that corrects unless told otherwise: it has to be switched off where that is not possible.
  const corrected = { sampling: { steps: 16, corrector: [4, 0.5, 0], warp: [1, 0, 0] } };
  assert.deepEqual(shown(corrected, { unit: "tokens" }), ["warp", "corrector"]);
  assert.deepEqual(shown(corrected, { steps: "first-hitting" }), ["corrector"]);
  assert.deepEqual(shown(corrected, { order: "left-to-right" }), []);
  const fallback = (key, other) => fieldsFor({ ...model, ...other }, {}).find((field) => field.key === key).fallback({ ...model, ...other });
  assert.deepEqual([fallback("corrector", corrected), fallback("warp", corrected), fallback("corrector", {})], ["4, 0.5, 0", "off", "off"]);
});

test("a link restores everything that was chosen", () => {
  const chosen = {
    model: "dictionary",
    template: "a & b = “c” #1\n[[5]] é + %41",
    compare: true,
    clock: "time",
    a: { seed: "7", steps: "64", warp: "1, 2, 0", corrector: "4, 0.5", window: "recomputed" },
    b: { order: "left-to-right", per_step: "2" },
  };
  assert.deepEqual(chosenOf(`#${fragmentOf(chosen)}`), { chosen, unknown: [] });
});

test("a link without a second run leaves it out, and what is not known is told", () => {
  const chosen = { model: "m", template: "", compare: false, clock: "evaluations", a: { seed: "1" }, b: { seed: "2" } };
  assert.deepEqual(chosenOf(fragmentOf(chosen)).chosen, { ...chosen, b: {} });
  assert.deepEqual(chosenOf("").chosen, null);
  assert.deepEqual(chosenOf("#model=m&colour=red&c.seed=1&a.size=2&clock=sun").unknown, ["colour", "c.seed", "a.size", "clock"]);
});

test("first templates are proper and fit", () => {
  for (const other of [{}, { network: "autoregressive" }, { tokenizer: { kind: "text8" } }, { tokenizer: { kind: "numbers" } }, { longest_text: 10 }, { longest_text: 30 }, { block_len: 16 }]) {
    const templates = firstTemplates({ ...model, ...other });
    assert.ok(templates.length > 0);
    for (const template of templates) assert.equal(problemOf(template), null);
  }
  assert.equal(firstTemplates({ ...model, block_len: 16 })[0], "lantern:[[*]]");
});

test("the second run differs from the first", () => {
  assert.equal(secondSettings(model, { seed: "3" }).unit, "tokens");
  assert.equal(secondSettings(model, { seed: "3", unit: "tokens" }).seed, "4");
  assert.equal(secondSettings({ ...model, subtokens: 1 }, {}).seed, "1");
});

test("settings in few words", () => {
  assert.equal(summaryOf(model, { seed: "7" }), "random order · digits · 256 steps · seed 7");
  assert.equal(
    summaryOf(model, { order: "left-to-right", per_step: "2", unit: "tokens", steps: "9" }),
    "left to right order · whole tokens · 2 per evaluation · seed 0",
  );
});

test("a score never stands without what it is", () => {
  const score = { nats: 69.3147, standard_error: 0.5, estimator: "nelbo_subtoken", characters: 50, kind: "upper_bound" };
  assert.deepEqual(scoreInWords(score), {
    value: "−log p ≤ 69.31 ± 0.50 nats",
    kind: "upper bound (nelbo subtoken)",
    more: "2.00 bits per character",
  });
  assert.equal(scoreInWords({ ...score, kind: "exact", standard_error: null }).value, "−log p = 69.31 nats");
  const figure = { name: "nelbo_subtoken", value: 2.5988, unit: "bits per character", kind: "upper_bound", standard_error: 0.0159 };
  assert.equal(figureInWords(figure), "2.60 ± 0.02 bits per character (upper bound)");
  const surrogate = scoreInWords({ ...score, kind: "surrogate" });
  assert.ok(!surrogate.value.includes("log p") && surrogate.more === "" && surrogate.kind.includes("no likelihood"));
});

test("two runs are compared with caution, and digits with whole tokens by what each evaluation decides", () => {
  assert.match(comparisonInWords("text", [undefined, "tokens"]), /^Digits take more evaluations .* One text proves nothing/);
  for (const units of [[undefined, "digits"], ["tokens", "tokens"]]) assert.match(comparisonInWords("text", units), /^One text proves nothing/);
  assert.equal(comparisonInWords("images", [undefined, undefined]), "One picture proves nothing.");
});

test("states and pieces can be read", () => {
  const partial = { kind: "partial", digits: [3, null], possible: 64, piece: null };
  assert.equal(stateInWords(partial), "partial, 1 of 2 digits known, 64 tokens possible");
  assert.equal(stateInWords({ kind: "clean", digits: [3, 1], possible: 1, piece: " light" }), "clean: “light”");
  assert.deepEqual(["\n", "  ", "<|endoftext|>", "", null].map(visible), ["⏎", "␣␣", "end", "∅", ""]);
  assert.deepEqual([0.412, 0.05, 0.0004].map(percent), ["41 %", "5.0 %", "< 0.1 %"]);
});

test("what was filled in is marked where pieces make up the text", () => {
  const choice = { text: "sea is", pieces: ["<|end|>", "sea", " i", "s", "<|end|>"], given: [true, true, false, false, false] };
  assert.deepEqual(markedOf(choice), [{ text: "sea", given: true }, { text: " is", given: false }]);
  assert.equal(markedOf({ ...choice, text: "seas" }), null);
  const broken = { text: "sea is", pieces: ["sea", "<|end|>", " is"], given: [true, false, false] };
  assert.deepEqual(markedOf(broken), [{ text: "sea", given: true }, { text: " is", given: false }]);
  const written = { text: "a<b>c", pieces: ["a", "<b>", "c"], given: [true, false, true] };
  assert.deepEqual(markedOf(written).map(({ text }) => text), ["a", "<b>", "c"]);
});

test("boxes and words break into lines", () => {
  const { places, height } = flow([{ width: 60 }, { width: 60 }, { width: 200, breaks: true }, { width: 10 }], {
    width: 100,
    lineHeight: 10,
    gap: 5,
  });
  assert.deepEqual(places.map(({ x, y }) => [x, y]), [[0, 0], [0, 15], [0, 30], [0, 45]]);
  assert.equal(places[2].width, 100);
  assert.equal(height, 55);
  assert.deepEqual(wrap("aa bb cc\ndd", 5, (text) => text.length), ["aa bb", "cc", "dd"]);
});

test("a brush stays on the picture, and a stroke has no gaps", () => {
  assert.deepEqual(brushed(0, 0, 3, 4, 4), [0, 1, 4, 5]);
  assert.deepEqual(brushed(2, 1, 1, 4, 4), [6]);
  const cells = line({ x: 0, y: 0 }, { x: 4, y: 2 });
  assert.equal(cells.length, 5);
  assert.deepEqual(cells[4], { x: 4, y: 2 });
  assert.deepEqual(line({ x: 1, y: 1 }, { x: 1, y: 1 })[0], { x: 1, y: 1 });
});
