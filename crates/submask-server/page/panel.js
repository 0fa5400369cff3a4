// One run on the stage: what it is, how far it is, its tokens or its picture, and what came of it.

import { ChipRow } from "./chips.js";
import { element, setText } from "./dom.js";
import { count, countsInWords, markedOf, percent, plural, scoreInWords, valuesInWords } from "./words.js";

/** The chips that a page can hold without becoming slow. */
const MOST_CHIPS = 6000;

/** A panel of a run of any kind. */
export class Panel {
  #frame = null;
  #chips = null;

  /** @param reuse called with the text of the result when it is to be the next text. */
  constructor({ letter, summary, run, model, reuse }) {
    this.run = run;
    this.reuse = reuse;
    this.model = model;
    this.letter = letter;
    this.numbers = {
      evaluations: element("dd", {}, "0"),
      idle: element("dd", {}, "0"),
      digits: element("dd", {}, "0 %"),
    };
    this.status = element("p", { className: "panel-status" }, "Waiting for the server …");
    this.body = run.kind === "text" ? this.#textBody() : this.#pictureBody();
    this.beyond = element("p", { className: "beyond-note", hidden: true });
    this.result = element("div", { className: "result", hidden: true });
    const badge = element("span", { className: "badge", "data-run": letter.toLowerCase() }, letter);
    const title = element("h3", {}, badge, element("span", { className: "panel-summary" }, summary));
    this.host = element("article", { className: "card panel", "data-run": letter.toLowerCase(), "aria-label": `Run ${letter}` });
    this.host.append(title, this.#statistics(), this.meter(), this.status, this.body, this.beyond, this.result);
  }

  #statistics() {
    const one = (name, value) => element("div", {}, element("dt", {}, name), value);
    const { evaluations, idle, digits } = this.numbers;
    const idleBox = one("idle steps skipped", idle);
    return element("dl", { className: "statistics" }, one("evaluations", evaluations), idleBox, one("digits known", digits));
  }

  meter() {
    const part = (kind) => element("span", { className: "meter-part", "data-state": kind });
    this.parts = { clean: part("clean"), partial: part("partial"), masked: part("masked") };
    this.meterBox = element("div", { className: "meter", role: "img", "aria-label": "Nothing is known yet" }, ...Object.values(this.parts));
    return this.meterBox;
  }

  #textBody() {
    return element("div", { className: "chips", role: "group", "aria-label": `Tokens of run ${this.letter}, arrow keys move` });
  }

  #pictureBody() {
    const { width, height } = this.model.image;
    this.picture = element("img", { className: "picture", alt: "", width, height, hidden: true });
    this.picture.style.aspectRatio = `${width} / ${height}`;
    return element("div", { className: "picture-frame" }, this.picture);
  }

  /** To be called when the run's first event has come. */
  started() {
    if (this.run.kind === "text" && this.run.length > MOST_CHIPS) {
      return this.say(`${plural(this.run.length, "token")} are too many to draw here; the text follows when it is complete.`);
    }
    this.say("");
    if (this.run.kind === "text") {
      this.#chips = new ChipRow(this.body, this.run, this.model.subtokens);
    }
    this.show(0);
  }

  /** Outlines a token. */
  outline(i) {
    this.#chips?.outline(i);
  }

  say(words, isError = false) {
    this.status.hidden = words === "";
    this.status.classList.toggle("field-error", isError);
    if (isError) this.status.setAttribute("role", "alert");
    else this.status.removeAttribute("role");
    setText(this.status, words);
  }

  get frame() {
    return this.#frame ?? 0;
  }

  /** Shows the run after `frame` evaluations. */
  show(frame) {
    this.#frame = frame;
    const all = this.run.finished ? this.run.frames : this.run.framesAtMost;
    const of = all === null ? "" : ` of ${this.run.finished ? "" : "at most "}${count(all)}`;
    setText(this.numbers.evaluations, `${count(frame)}${of}`);
    if (this.run.kind === "text") this.#showText(frame);
    else this.#showPicture(frame);
    this.result.hidden = this.run.kind !== "text" || !this.isAtEnd(frame);
  }

  isAtEnd(frame = this.frame) {
    return this.run.finished !== null && frame >= this.run.frames;
  }

  #showText(frame) {
    if (this.run.length === 0) return;
    const { counts, idle } = this.run.moment(frame);
    const skipped = this.isAtEnd(frame) ? (this.run.finished.usage?.idle_steps ?? idle) : idle;
    setText(this.numbers.idle, skipped === null ? "–" : count(skipped));
    setText(this.numbers.digits, `${count(counts.digits)} of ${count(counts.of)}`);
    this.#showMeter(counts);
    this.#chips?.show(frame);
    const beyond = this.run.length - this.run.endAt(frame);
    this.beyond.hidden = beyond === 0;
    setText(this.beyond, `${plural(beyond, "token")} behind the end of the text belong to another text, which is left out.`);
  }

  #showMeter(counts) {
    for (const [kind, part] of Object.entries(this.parts)) {
      part.style.flexGrow = counts[kind];
      part.hidden = counts[kind] === 0;
    }
    const what = this.run.kind === "text" ? "To fill in" : "Colour values to fill in";
    this.meterBox.setAttribute("aria-label", `${what}: ${countsInWords(counts)}`);
  }

  #showPicture(frame) {
    const picture = this.run.picture(frame);
    const idle = this.run.finished?.usage?.idle_steps;
    setText(this.numbers.idle, idle !== undefined && this.isAtEnd(frame) ? count(idle) : "–");
    if (!picture) return;
    const address = `data:image/png;base64,${picture.png}`;
    if (this.picture.src !== address) this.picture.src = address;
    this.picture.hidden = false;
    setText(this.numbers.digits, percent(picture.known));
    this.picture.alt = `Picture of run ${this.letter} after ${plural(picture.at, "evaluation")}. ${valuesInWords(picture)}`;
    this.#showMeter(picture.counts);
  }

  /** Shows what came of a run of text. */
  finished() {
    this.say("");
    if (this.run.kind !== "text") return;
    this.likelihood = element("p", { className: "likelihood" }, "Likelihood …");
    const edit = element("button", { type: "button", className: "small" }, "Use as text");
    edit.addEventListener("click", () => this.reuse(this.run.finished.text));
    const head = element("div", { className: "row between" }, element("h4", {}, "Result"), edit);
    this.result.replaceChildren(head, textOf(this.run.finished), this.likelihood);
  }

  /** Shows how likely the result is: a number, what it is, and its error. */
  scored(score) {
    const { value, kind, more } = scoreInWords(score);
    const about = element("span", { className: "quiet" }, [` ${kind}`, more].filter(Boolean).join(" · "));
    this.likelihood.replaceChildren(element("span", { className: "nats" }, value), about);
  }

  notScored(reason) {
    this.likelihood.replaceChildren(element("span", { className: "quiet" }, reason));
  }
}

/** The text of a choice, what was filled in being marked, where its pieces make up the text. */
function textOf(choice) {
  const paragraph = element("p", { className: "result-text" });
  const runs = markedOf(choice);
  if (runs === null) paragraph.textContent = choice.text === "" ? "(empty)" : choice.text;
  else paragraph.append(...runs.map(({ text, given }) => (given ? text : element("mark", {}, text))));
  return paragraph;
}
