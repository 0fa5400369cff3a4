// The editor of a template: text in which selections become holes.

import { byId, element, setText } from "./dom.js";
import { partsOf, problemOf, selectionOf, tokensOf, USUAL_CHARACTERS, withHole } from "./template.js";
import { plural } from "./words.js";

const NO_HOLE = "no hole: the text goes on";

/** The field of the template, a copy behind it in which holes are coloured, and the button that makes holes. */
export class Composer {
  /** What this page has seen of the model's tokens; it makes holes about as long as what they replace. */
  charactersPerToken = USUAL_CHARACTERS;
  #selected = { start: 0, end: 0 };

  constructor() {
    this.area = byId("template");
    this.button = byId("make-hole");
    this.tokens = byId("hole-tokens");
    this.error = byId("template-error");
    this.area.addEventListener("input", () => this.#changed());
    document.addEventListener("selectionchange", () => this.#select());
    for (const kind of ["select", "keyup", "pointerup", "focus"]) this.area.addEventListener(kind, () => this.#select());
    this.button.addEventListener("click", () => this.#makeHole());
    this.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.area.form.requestSubmit();
    });
  }

  get template() {
    return this.area.value;
  }

  set template(text) {
    this.area.value = text;
    this.#changed();
  }

  /** About how many tokens the whole text has; null where it reaches to the end. */
  get length() {
    const parts = partsOf(this.template);
    if (!parts.some(({ kind }) => kind === "hole") || parts.some(({ tokens }) => tokens === "rest")) return null;
    const given = parts.filter(({ kind }) => kind === "text").reduce((sum, { source }) => sum + source.length, 0);
    return parts.reduce((sum, { tokens }) => sum + (tokens ?? 0), Math.ceil(given / this.charactersPerToken));
  }

  /** What is wrong with the template, or null; it is shown, too. */
  check() {
    const problem = problemOf(this.template);
    this.complain(problem ?? "");
    return problem;
  }

  complain(message) {
    this.error.hidden = message === "";
    this.error.textContent = message;
    this.area.setAttribute("aria-invalid", String(message !== ""));
  }

  #changed() {
    const parts = partsOf(this.template);
    const marked = parts.map(({ kind, source }) => (kind === "text" ? source : element("mark", { className: kind }, source)));
    // A line end at the very end needs something behind it to be as high as in the field.
    byId("mirror").replaceChildren(...marked, "\u200b");
    const holes = parts.filter((part) => part.kind === "hole");
    const tokens = holes.reduce((sum, hole) => sum + (hole.tokens === "rest" ? 0 : hole.tokens), 0);
    const rest = holes.length === 0 || holes.some((hole) => hole.tokens === "rest");
    const words = tokens === 0 ? "the rest" : `${plural(tokens, "token")}${rest ? " and the rest" : ""}`;
    setText(byId("template-count"), holes.length === 0 ? NO_HOLE : `${words} to fill in`);
    this.complain("");
    this.#select();
  }

  /** The button says what it would do with the selection. */
  #select() {
    if (document.activeElement !== this.area) return;
    this.#selected = selectionOf(this.template, this.area.selectionStart, this.area.selectionEnd);
    const { start, end } = this.#selected;
    const words = this.template.slice(start, end).trim();
    if (end > start) this.tokens.value = String(tokensOf(this.template.slice(start, end), this.charactersPerToken));
    setText(this.button, end > start ? `Make “${shortened(words)}” a hole` : "Insert a hole");
  }

  #makeHole() {
    const tokens = Math.max(1, Math.round(Number(this.tokens.value)) || 1);
    const { start, end, template } = withHole(this.template, this.#selected.start, this.#selected.end, tokens);
    this.area.focus();
    this.#replace(this.#selected, template.slice(start, end), template);
    this.area.setSelectionRange(end, end);
    this.#changed();
  }

  /** Types the hole in, so that the browser can undo it; `whole` is the text that must stand there in the end. */
  #replace({ start, end }, hole, whole) {
    this.area.setSelectionRange(start, end);
    const typed = document.execCommand?.("insertText", false, hole);
    if (!typed || this.template !== whole) this.area.value = whole;
  }
}

function shortened(words) {
  return words.length > 18 ? `${words.slice(0, 16)}…` : words;
}
