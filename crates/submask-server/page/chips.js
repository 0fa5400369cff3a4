// Tokens as chips: their text, and below it their digits.

import { element, setText } from "./dom.js";
import { isSign } from "./replay.js";
import { count, stateInWords, visible } from "./words.js";

/** A chip that shows nothing yet. */
export function newChip(subtokens) {
  const digits = element("span", { className: "chip-digits", "aria-hidden": "true" });
  for (let place = 0; place < subtokens; place += 1) digits.append(element("span", { className: "digit" }));
  const words = element("span", { className: "chip-text", "aria-hidden": "true" });
  return element("span", { className: "chip" }, words, digits);
}

/** Shows a token on a chip. */
export function showToken(chip, token, name) {
  const [words, digits] = chip.children;
  chip.dataset.state = token.kind;
  setText(words, chipText(token));
  chip.classList.toggle("sign", token.isStart || isSign(token.piece));
  words.classList.toggle("left", token.kind === "partial" || token.kind === "masked");
  token.digits.forEach((digit, place) => {
    const cell = digits.children[place];
    setText(cell, digit === null ? "" : String(digit));
    cell.classList.toggle("known", digit !== null);
  });
  chip.style.setProperty("--known", knownParts(token.digits));
  if (name !== undefined) chip.setAttribute("aria-label", `${name}: ${stateInWords(token)}`);
}

/** A gradient that fills the part of a chip above every known digit. */
function knownParts(digits) {
  const share = 100 / digits.length;
  const stops = digits.map((digit, place) => {
    const colour = digit === null ? "transparent" : "var(--partial)";
    return `${colour} ${place * share}% ${(place + 1) * share}%`;
  });
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}

/** What stands on a chip above its digits. */
export function chipText(token) {
  if (token.isStart) return "‹start›";
  if (isSign(token.piece)) return `‹${visible(token.piece)}›`;
  if (token.kind === "clean" || token.kind === "given") return visible(token.piece) || "·";
  if (token.kind === "masked") return "?";
  return token.possible === null ? "…" : `${count(token.possible)} left`;
}

/** All chips of a run, of which only those that change are written. */
export class ChipRow {
  #chips = [];
  #shown = [];

  constructor(host, run, subtokens) {
    this.host = host;
    this.run = run;
    for (let i = 0; i < run.length; i += 1) {
      const chip = newChip(subtokens);
      chip.dataset.token = String(i);
      chip.setAttribute("role", "img");
      chip.tabIndex = i === 0 ? 0 : -1;
      this.#chips.push(chip);
    }
    host.replaceChildren(...this.#chips);
    host.addEventListener("keydown", (event) => this.#move(event));
    host.addEventListener("focusin", (event) => this.#focused(event.target.closest(".chip")));
  }

  show(frame) {
    const end = this.run.endAt(frame);
    this.#chips.forEach((chip, i) => {
      const token = { ...this.run.token(i, frame), isStart: this.run.isStart(i) };
      const beyond = i >= end;
      const key = `${token.at},${beyond}`;
      if (this.#shown[i] === key) return;
      const grew = this.#shown[i] !== undefined;
      this.#shown[i] = key;
      showToken(chip, token, `Token ${i + 1}${beyond ? ", behind the end of the text" : ""}`);
      chip.classList.toggle("beyond", beyond);
      chip.classList.toggle("grew", grew && token.at === frame);
    });
  }

  /** Outlines the chip of token `i`, of which the head of the page speaks. */
  outline(i) {
    this.#chips.forEach((chip, place) => chip.classList.toggle("outlined", place === i));
  }

  /** Left and right go from token to token; the others are out of the order of the Tab key. */
  #move(event) {
    const at = this.#chips.indexOf(document.activeElement);
    const last = this.#chips.length - 1;
    const aims = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last };
    const aim = aims[event.key];
    if (at < 0 || aim === undefined) return;
    event.preventDefault();
    this.#chips[Math.max(0, Math.min(last, aim))].focus();
  }

  #focused(chip) {
    if (!chip) return;
    for (const each of this.#chips) each.tabIndex = each === chip ? 0 : -1;
  }
}
