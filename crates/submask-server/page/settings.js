// Settings of a run: what they are called, what they may be, and the request that they make. Values are kept as they were
// typed; an empty one stands for the model's default.

const LARGEST_SEED = Number.MAX_SAFE_INTEGER;

/** A refusal that names the field. */
export class FieldError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const orderNames = {
  random: "random",
  "left-to-right": "left to right",
};

/** What a setting is called where people read it. */
export function nameOf(key, value) {
  if (key === "order") return orderNames[value] ?? value;
  if (key === "unit" && value === "tokens") return "whole tokens";
  return value;
}

/** What stands for no warp and no corrector. */
const OFF = "off";

/** The steps of a run without a grid. */
const FIRST_HITTING = "first-hitting";

/**
 * Settings in the order in which they are shown. `fits(model, settings)` says whether one has a meaning; `read` makes a value of
 * what was typed. The server would draw a seed, so the page's own is always sent.
 */
export const FIELDS = [
  {
    key: "order",
    label: "Order",
    help: "Which masked digits come next. Confidence, margin and entropy begin where the network is surest.",
    choices: (model) => model.orders ?? [],
    fallback: () => "random",
    fits: (model) => diffuses(model) && (model.orders ?? []).length > 1,
    read: (value) => value,
  },
  {
    key: "unit",
    label: "Revealed at once",
    help: "Digits one by one, or all digits of a token together: then nothing is ever partial.",
    choices: () => ["digits", "tokens"],
    fallback: () => "digits",
    fits: (model) => diffuses(model) && model.subtokens > 1,
    read: (value) => value,
  },
  {
    key: "steps",
    label: "Steps",
    help: "Steps of the time grid, or “first-hitting”: no grid, one digit per evaluation.",
    suggestions: [FIRST_HITTING, "16", "64", "256", "1024"],
    fallback: (model) => (model.sampling?.steps === 0 ? FIRST_HITTING : text(model.sampling?.steps)),
    fits: (model, settings) => diffuses(model) && isRandom(settings),
    read: (value) => (value === FIRST_HITTING ? 0 : whole("steps", "Steps", value, 1)),
  },
  {
    key: "per_step",
    label: "Per evaluation",
    help: "Digits or tokens that each network evaluation reveals.",
    fallback: () => "1",
    fits: (model, settings) => diffuses(model) && !isRandom(settings),
    read: (value) => whole("per_step", "Per evaluation", value, 1),
  },
  {
    key: "seed",
    label: "Seed",
    help: "The same seed and settings give the same result.",
    isAlwaysSent: true,
    fallback: () => "0",
    fits: () => true,
    read: (value) => whole("seed", "Seed", value, 0, LARGEST_SEED),
  },
  {
    key: "label",
    label: "Class",
    help: "What kind of picture.",
    choices: (model) => ["", ...(model.classes ?? []), "mixture"],
    fallback: () => "",
    fits: (model) => model.kind === "images" && (model.classes ?? []).length > 0,
    read: (value) => value,
  },
  {
    key: "temperature",
    label: "Temperature",
    help: "Below 1 the likelier tokens are preferred; three numbers a, n, c mean a·uⁿ + c.",
    more: true,
    fallback: (model) => text(model.sampling?.temperature),
    fits: () => true,
    read: readTemperature,
  },
  {
    key: "top_p",
    label: "Top p",
    help: "Only the most probable tokens that make up this share.",
    more: true,
    fallback: (model) => text(model.sampling?.top_p),
    fits: () => true,
    read: (value) => inRange("top_p", "Top p", value, 0, 1),
  },
  {
    key: "top_k",
    label: "Top k",
    help: "Only so many of the most probable tokens; 0 keeps all.",
    more: true,
    fallback: (model) => text(model.sampling?.top_k),
    fits: () => true,
    read: (value) => whole("top_k", "Top k", value, 0),
  },
  {
    key: "length",
    label: "Length",
    help: "Tokens of the whole text; a model that writes block by block may write more than it reads.",
    more: true,
    fallback: (model) => text(model.seq_len),
    fits: (model) => model.kind === "text",
    read: (value) => whole("length", "Length", value, 1),
  },
  {
    key: "draw",
    label: "Digits of a token are drawn",
    help: "Together, or each by itself.",
    more: true,
    choices: () => ["joint", "marginal"],
    fallback: (model) => text(model.sampling?.draw) || "joint",
    fits: (model) => diffuses(model) && model.subtokens > 1,
    read: (value) => value,
  },
  {
    key: "warp",
    label: "Warp",
    help: "Bends the time grid: with three numbers a, n, c, u becomes 1 − a(1 − u)ⁿ + c. With n above 1 the first steps are larger. “off”: no warp.",
    suggestions: [OFF],
    more: true,
    fallback: ({ sampling }) => (sampling?.warp?.[1] === 0 ? OFF : text(sampling?.warp)),
    fits: hasGrid,
    read: readWarp,
  },
  {
    key: "corrector",
    label: "Corrector",
    help: "Jumps mask known digits again, or change them: two numbers k, p for their strength k·uᵖ(1 − u)ᵖ. “off”: no jumps.",
    suggestions: [OFF],
    more: true,
    fallback: ({ sampling }) => (sampling?.corrector?.length > 0 ? text(sampling.corrector) : OFF),
    fits: (model, settings) => isRandom(settings) && (isCorrected(model) || (hasGrid(model, settings) && !isByToken(settings))),
    read: readCorrector,
  },
  {
    key: "window",
    label: "Window",
    help: "What blocks read of a text longer than the model reads: “cached”, what was kept when it was written; “recomputed”, its last tokens, read anew for every block.",
    more: true,
    choices: () => ["cached", "recomputed"],
    fallback: (model) => text(model.sampling?.window) || "cached",
    fits: (model) => model.block_len > 0,
    read: (value) => value,
  },
];

/** Whether a model reveals masks, unlike the baseline, which goes from left to right. */
export function diffuses(model) {
  return model.network !== "autoregressive";
}

function isRandom(settings) {
  return (settings.order || "random") === "random";
}

function isByToken(settings) {
  return settings.unit === "tokens";
}

/** Whether a run goes along a grid of steps. */
function hasGrid(model, settings) {
  const isFirstHitting = settings.steps ? settings.steps === FIRST_HITTING : model.sampling?.steps === 0;
  return diffuses(model) && isRandom(settings) && !isFirstHitting;
}

/** Whether a model has a corrector unless told otherwise, which some settings forbid: then it can be switched off. */
function isCorrected(model) {
  return diffuses(model) && model.sampling?.corrector?.length > 0;
}

function text(value) {
  if (value === undefined || value === null) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

/** The fields that have a meaning for a model with these settings. */
export function fieldsFor(model, settings) {
  return FIELDS.filter((field) => field.fits(model, settings));
}

/**
 * What is asked of the server beside template and model.
 *
 * @throws {FieldError} for a value that cannot be meant.
 */
export function valuesOf(model, settings) {
  const values = {};
  for (const field of fieldsFor(model, settings)) {
    const typed = (settings[field.key] ?? "").trim() || (field.isAlwaysSent ? field.fallback(model) : "");
    if (typed !== "") values[field.key] = field.read(typed);
  }
  return values;
}

/** The settings in few words, for a headline. */
export function summaryOf(model, settings) {
  const shown = (key) => settings[key] || FIELDS.find((field) => field.key === key).fallback(model);
  const words = diffuses(model) ? [] : ["left to right"];
  for (const { key } of fieldsFor(model, settings)) {
    if (key === "order") words.push(`${shown("order").replaceAll("-", " ")} order`);
    if (key === "unit") words.push(shown("unit") === "tokens" ? "whole tokens" : "digits");
    if (key === "steps") words.push(shown("steps") === FIRST_HITTING ? FIRST_HITTING : `${shown("steps")} steps`);
    if (key === "per_step") words.push(`${shown("per_step")} per evaluation`);
    if (key === "label" && settings.label) words.push(settings.label);
    if (key === "temperature" && settings.temperature) words.push(`temperature ${settings.temperature}`);
    if (["warp", "corrector", "window"].includes(key) && settings[key]) words.push(`${key} ${settings[key]}`);
    if (key === "seed") words.push(`seed ${shown("seed")}`);
  }
  return words.join(" · ");
}

function whole(field, label, typed, least, most = 2 ** 32 - 1) {
  const value = /^\d+$/.test(typed) ? Number(typed) : NaN;
  if (value >= least && value <= most) return value;
  throw new FieldError(field, `${label}: “${typed}” is not a whole number from ${least} to ${most === LARGEST_SEED ? "2⁵³ − 1" : most.toLocaleString("en")}.`);
}

function inRange(field, label, typed, above, most) {
  const value = Number(typed);
  if (value > above && value <= most) return value;
  throw new FieldError(field, `${label}: “${typed}” is not a number above ${above} and at most ${most}.`);
}

/** Numbers with commas between them. */
function numbersOf(typed) {
  return typed.split(",").map((number) => (number.trim() === "" ? NaN : Number(number)));
}

function readTemperature(typed) {
  const numbers = numbersOf(typed);
  if (numbers.every(Number.isFinite)) {
    if (numbers.length === 1 && numbers[0] >= 0) return numbers[0];
    if (numbers.length === 3) return numbers;
  }
  throw new FieldError("temperature", `Temperature: “${typed}” is neither a number of at least 0 nor three numbers a, n, c.`);
}

function readWarp(typed) {
  if (typed === OFF) return [1, 0, 0];
  const numbers = numbersOf(typed);
  if (numbers.length === 3 && numbers.every(Number.isFinite)) return numbers;
  throw new FieldError("warp", `Warp: “${typed}” is neither “${OFF}” nor three numbers a, n, c.`);
}

/** Published correctors have a third number, which nothing reads. */
function readCorrector(typed) {
  if (typed === OFF) return OFF;
  const [k, p, unused = 0, ...more] = numbersOf(typed);
  if (k >= 0 && p >= 0 && [k, p, unused].every(Number.isFinite) && more.length === 0) return [k, p, unused];
  throw new FieldError("corrector", `Corrector: “${typed}” is neither “${OFF}” nor two numbers k, p of at least 0.`);
}
