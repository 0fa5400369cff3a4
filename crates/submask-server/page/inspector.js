// What is known of the token under the pointer or the focus, and which tokens are the likeliest.

import { answer } from "./api.js";
import { element } from "./dom.js";
import { count, percent, plural, stateInWords, visible } from "./words.js";

const TOP = 5;
const PAUSE = 120;

/** The box beside a chip. It is shown by hover or focus, stays while the pointer is in it, and goes with Escape. */
export class Inspector {
  #chip = null;
  #subject = null;
  #timer = 0;
  #hiding = 0;
  #aborter = null;
  #answers = new Map();

  /**
   * @param box the element.
   * @param subjectOf tells of a chip `{run, frame, model, token, label}`.
   */
  constructor(box, subjectOf) {
    this.box = box;
    this.subjectOf = subjectOf;
    box.addEventListener("pointerenter", () => clearTimeout(this.#hiding));
    box.addEventListener("pointerleave", () => this.#hideSoon());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    addEventListener("scroll", () => this.#place(), { passive: true, capture: true });
    addEventListener("resize", () => this.#place());
  }

  /** Follows the chips inside `host`. */
  watch(host) {
    const chipOf = (event) => event.target.closest?.(".chip[data-token]");
    host.addEventListener("pointerover", (event) => chipOf(event) && this.#show(chipOf(event)));
    host.addEventListener("pointerout", (event) => chipOf(event) && this.#hideSoon());
    host.addEventListener("focusin", (event) => chipOf(event) && this.#show(chipOf(event)));
    host.addEventListener("focusout", () => this.#hideSoon());
  }

  /** Shows the chip's state anew, after the clock has moved. */
  refresh() {
    if (!this.#chip) return;
    if (!this.#chip.isConnected) return this.hide();
    const subject = this.subjectOf(this.#chip);
    const before = this.#subject;
    if (subject.run === before.run && subject.token.at === before.token.at && subject.frame === before.frame) return;
    this.#fill(subject);
  }

  hide() {
    clearTimeout(this.#timer);
    clearTimeout(this.#hiding);
    this.#aborter?.abort();
    this.#chip?.removeAttribute("aria-describedby");
    this.#chip = null;
    this.box.hidden = true;
  }

  #show(chip) {
    clearTimeout(this.#hiding);
    if (chip === this.#chip) return;
    this.#chip?.removeAttribute("aria-describedby");
    this.#chip = chip;
    chip.setAttribute("aria-describedby", this.box.id);
    this.#fill(this.subjectOf(chip), true);
  }

  #hideSoon() {
    clearTimeout(this.#hiding);
    this.#hiding = setTimeout(() => {
      const chip = this.#chip;
      if (chip && chip !== document.activeElement) this.hide();
    }, 200);
  }

  #fill(subject, isOther = false) {
    this.#subject = subject;
    const { token, label } = subject;
    const title = element("p", { className: "inspector-title" }, `${label} `);
    title.append(element("span", { className: "state-name", "data-state": token.kind }, stateName(token)));
    const open = subject.predicts && (token.kind === "masked" || token.kind === "partial");
    // What was told of the same token stays until there is more, so that nothing flickers while the clock runs.
    if (!open || isOther) this.likeliest = element("div", { className: "likeliest", "aria-live": "polite" });
    this.box.replaceChildren(title, element("p", {}, sentenceOf(subject)), this.likeliest);
    this.likeliest.classList.toggle("open", open);
    this.box.hidden = false;
    clearTimeout(this.#timer);
    this.#aborter?.abort();
    if (open) this.#predictSoon(subject);
    this.#place();
  }

  #predictSoon(subject) {
    const key = `${subject.label}/${subject.id}/${subject.frame}/${subject.index}`;
    const known = this.#answers.get(key);
    if (known) return this.#likeliest(known);
    if (this.likeliest.textContent === "") this.likeliest.textContent = "The likeliest tokens …";
    this.#timer = setTimeout(() => this.#predict(subject, key), PAUSE);
  }

  async #predict({ run, frame, model, index }, key) {
    this.#aborter = new AbortController();
    const { signal } = this.#aborter;
    try {
      const body = { model, digits: run.digits(frame), tokens: [index], top: TOP };
      const told = (await answer("v1/predict", body, signal)).predictions[0];
      if (this.#answers.size > 500) this.#answers.clear();
      this.#answers.set(key, told);
      this.#likeliest(told);
    } catch (error) {
      if (!signal.aborted) this.likeliest.textContent = error.message;
    }
  }

  #likeliest(told) {
    const rest = 1 - told.top.reduce((sum, each) => sum + each.probability, 0);
    const rows = told.top.map(rowOf);
    const others = told.possible - told.top.length;
    const list = element("ol", { className: "bars" }, ...rows);
    this.likeliest.replaceChildren(element("p", { className: "quiet" }, "The network finds likeliest:"), list);
    if (others > 0) {
      const words = `${plural(others, "other token")} share ${percent(Math.max(0, rest))}`;
      this.likeliest.append(element("p", { className: "quiet" }, words));
    }
    this.#place();
  }

  /** Below the chip where there is room, or else above it. */
  #place() {
    if (!this.#chip || this.box.hidden) return;
    const chip = this.#chip.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const below = chip.bottom + 6;
    const top = below + height > innerHeight - 8 && chip.top - height - 6 > 8 ? chip.top - height - 6 : below;
    const left = Math.max(8, Math.min(innerWidth - width - 8, chip.left + chip.width / 2 - width / 2));
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }
}

function rowOf({ text, token, probability }) {
  const bar = element("span", { className: "bar-fill", "aria-hidden": "true" });
  bar.style.width = `${Math.max(1, 100 * probability)}%`;
  const words = element("span", { className: "bar-text" }, text === null ? `token ${token}` : spaced(text));
  return element("li", {}, words, element("span", { className: "bar-track" }, bar), ` ${percent(probability)}`);
}

function stateName({ kind, digits }) {
  if (kind !== "partial") return kind;
  return `partial: ${digits.filter((digit) => digit !== null).length} of ${digits.length} digits`;
}

function sentenceOf({ token, vocabSize, since, frame }) {
  const words = stateInWords(token);
  const sentence = `${words[0].toUpperCase()}${words.slice(1)}`;
  if (token.kind === "given") return `${sentence}. It does not change.`;
  if (token.kind === "clean") return `${sentence}. ${whenKnown(since, frame)}`;
  if (token.kind === "masked") return `All ${plural(vocabSize, "token")} are possible.`;
  const left = token.possible === null ? "" : `${count(token.possible)} of ${plural(vocabSize, "token")} are still possible.`;
  return `${whenKnown(since, frame)} ${left}`.trim();
}

function whenKnown(since, frame) {
  const told = since.flatMap((at, place) => (at !== null && at <= frame ? [`digit ${place + 1} at evaluation ${at}`] : []));
  return told.length === 0 ? "" : `Revealed: ${told.join(", ")}.`;
}

/** A piece with its leading space, which tells tokens apart. */
function spaced(piece) {
  const shown = visible(piece) || "·";
  return piece.startsWith(" ") && piece.trim() !== "" ? `␣${shown}` : shown;
}
