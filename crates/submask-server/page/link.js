// The link that restores a page: everything that was chosen, in the fragment of the address, which browsers do not send.

import { OMITTED } from "./picture.js";
import { FIELDS } from "./settings.js";

const RUNS = ["a", "b"];

/** The fragment of what was chosen, without `#`. */
export function fragmentOf(chosen) {
  const query = new URLSearchParams();
  query.set("model", chosen.model);
  if (chosen.template !== undefined) query.set("template", chosen.template);
  if (chosen.compare) query.set("compare", "1");
  if (chosen.clock && chosen.clock !== "evaluations") query.set("clock", chosen.clock);
  for (const run of chosen.compare ? RUNS : ["a"]) {
    for (const { key } of FIELDS) {
      const value = chosen[run]?.[key];
      if (value !== undefined && value !== "") query.set(`${run}.${key}`, value);
    }
  }
  addPicture(query, chosen.picture);
  return query.toString();
}

/** The picture of `linkedPicture`, last, so that the rest of the address can be read. */
function addPicture(query, picture) {
  if (picture === OMITTED) query.set("picture", OMITTED);
  else if (picture) {
    query.set("picture", picture.png);
    query.set("mask", picture.mask);
  }
}

/**
 * What a fragment chooses: `{chosen, unknown}`, `chosen` being null where it says nothing, and `unknown` the names that this page
 * does not know.
 */
export function chosenOf(fragment) {
  const query = new URLSearchParams(fragment.replace(/^#/, ""));
  if (!fragment.includes("=")) return { chosen: null, unknown: [] };
  const chosen = { compare: false, clock: "evaluations", a: {}, b: {} };
  const unknown = [];
  for (const [name, value] of query) {
    if (!take(chosen, name, value)) unknown.push(name);
  }
  const [png, mask] = ["picture", "mask"].map((name) => query.get(name));
  if (png === OMITTED) chosen.picture = OMITTED;
  else if (png !== null || mask !== null) chosen.picture = { png: png ?? "", mask: mask ?? "" };
  return { chosen, unknown };
}

function take(chosen, name, value) {
  if (name === "model" || name === "template") chosen[name] = value;
  else if (name === "compare" && value === "1") chosen.compare = true;
  else if (name === "clock" && ["evaluations", "time"].includes(value)) chosen.clock = value;
  else if (!["picture", "mask"].includes(name)) return takeSetting(chosen, name, value);
  return true;
}

function takeSetting(chosen, name, value) {
  const [run, key] = name.split(".");
  if (!RUNS.includes(run) || !FIELDS.some((field) => field.key === key)) return false;
  chosen[run][key] = value;
  return true;
}
