// The stage: panels of runs on one clock, with play, pause, steps and a slider.

import { advance, availableOf, frameOf, hasTimes, lengthOf, neighbour, PROCESS_LENGTH, rateOf } from "./clock.js";
import { byId, debounced, setText, wantsStillness } from "./dom.js";
import { count, countsInWords, valuesInWords } from "./words.js";

/** Player of panels. `moved` is called whenever what is shown may have changed. */
export class Stage {
  panels = [];
  position = 0;
  playing = false;
  #last = 0;
  #due = 0;
  /** Whether the stage is on the screen, and whether it is to play once it is. */
  #isSeen = false;
  #waits = false;

  constructor(moved) {
    this.moved = moved;
    this.scrub = byId("scrub");
    this.scrub.addEventListener("input", () => this.seek(Number(this.scrub.value)));
    byId("play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    byId("back").addEventListener("click", () => this.step(-1));
    byId("forward").addEventListener("click", () => this.step(1));
    byId("to-start").addEventListener("click", () => this.seek(0));
    byId("to-end").addEventListener("click", () => this.seek(this.#length));
    byId("clock").addEventListener("change", () => this.#changeClock());
    new IntersectionObserver(([{ isIntersecting }]) => this.#see(isIntersecting), { rootMargin: "0px 0px -25% 0px" }).observe(byId("stage"));
    this.announce = debounced(900, () => this.#tell());
  }

  get runs() {
    return this.panels.map((panel) => panel.run);
  }

  get clock() {
    return byId("clock").value;
  }

  set clock(value) {
    byId("clock").value = value;
  }

  get #length() {
    return lengthOf(this.runs, this.clock);
  }

  /** Puts panels on the stage, at the beginning of the clock. */
  set(panels) {
    this.panels = panels;
    byId("panels").replaceChildren(...panels.map((panel) => panel.host));
    byId("panels").classList.toggle("two", panels.length > 1);
    this.position = 0;
    this.pause();
    this.render();
  }

  /** Plays as soon as the stage is on the screen, which on a small one may be later. */
  playWhenSeen() {
    if (this.#isSeen) this.play();
    else this.#waits = true;
  }

  /** Scrolls to the stage where it is off the screen. */
  bringIn() {
    if (!this.#isSeen) byId("stage").scrollIntoView({ behavior: wantsStillness() ? "auto" : "smooth" });
  }

  #see(isSeen) {
    this.#isSeen = isSeen;
    if (isSeen && this.#waits) this.play();
  }

  play() {
    this.#waits = false;
    if (this.position >= this.#length && this.runs.every((run) => run.finished)) this.position = 0;
    this.playing = true;
    this.#last = performance.now();
    this.#showPlaying();
    requestAnimationFrame((now) => this.#tick(now));
  }

  pause() {
    this.#waits = false;
    this.playing = false;
    this.#showPlaying();
  }

  /** Goes to a position and stops there. */
  seek(position) {
    this.pause();
    this.position = Math.max(0, Math.min(position, availableOf(this.runs, this.clock)));
    this.render();
    this.announce();
  }

  step(direction) {
    this.seek(neighbour(this.runs, this.position, this.clock, direction));
  }

  #showPlaying() {
    const button = byId("play");
    button.classList.toggle("playing", this.playing);
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  #tick(now) {
    if (!this.playing) return;
    const seconds = Math.min(0.25, (now - this.#last) / 1000);
    this.#last = now;
    const rate = rateOf(this.#length, this.clock) * Number(byId("speed").value);
    this.position = advance(this.position, seconds, rate, availableOf(this.runs, this.clock));
    this.render();
    if (this.position >= this.#length && this.runs.every((run) => run.finished)) {
      this.pause();
      this.#tell();
      return;
    }
    requestAnimationFrame((next) => this.#tick(next));
  }

  /** Keeps the place in the runs when the clock is another. */
  #changeClock() {
    const [run] = this.runs;
    const before = this.clock === "time" ? "evaluations" : "time";
    if (run) {
      const frame = frameOf(run, this.position, before);
      const times = run.times();
      const time = frame >= run.frames ? PROCESS_LENGTH : PROCESS_LENGTH * (times[frame - 1] ?? 0);
      this.position = this.clock === "time" ? time : frame;
    }
    this.render();
    this.moved();
  }

  /** Renders with the next frame of the screen, however many events come until then. */
  renderSoon() {
    this.#due ||= requestAnimationFrame(() => this.render());
  }

  /** Shows everything as it is at the position of the clock. */
  render() {
    cancelAnimationFrame(this.#due);
    this.#due = 0;
    const withTimes = this.runs.length > 0 && this.runs.every(hasTimes);
    const time = byId("clock").options[1];
    if (time.disabled === withTimes) time.disabled = !withTimes;
    const complete = this.runs.length > 0 && this.runs.every((run) => run.finished);
    if (complete && !withTimes && this.clock === "time") this.clock = "evaluations";
    for (const panel of this.panels) panel.show(frameOf(panel.run, this.position, this.clock));
    this.#showPosition();
    this.moved();
  }

  #showPosition() {
    const length = this.#length;
    this.scrub.max = String(length);
    this.scrub.step = this.clock === "time" ? "any" : "1";
    this.scrub.value = String(this.clock === "time" ? this.position : Math.floor(this.position + 1e-9));
    this.scrub.style.setProperty("--done", `${length === 0 ? 0 : (100 * this.scrub.value) / length}%`);
    const words = this.#positionInWords(length);
    setText(byId("position"), words);
    this.scrub.setAttribute("aria-valuetext", words);
  }

  #positionInWords(length) {
    if (this.clock === "time") return `t = ${(1 - this.position / PROCESS_LENGTH).toFixed(3)}`;
    return `${count(Math.floor(this.position + 1e-9))} / ${count(length)}`;
  }

  /** Tells screen readers where the runs are, once they rest. */
  #tell() {
    const words = this.panels.map(({ letter, run, frame }) => {
      const of = `Run ${letter}, evaluation ${count(frame)} of ${count(run.frames)}`;
      const picture = run.kind === "text" ? null : run.picture(frame);
      if (picture) return `${of}. ${valuesInWords(picture)}`;
      const moment = run.length > 0 ? run.moment(frame) : null;
      const end = run.finished && frame >= run.frames ? ` Result: ${run.finished.text}` : "";
      return moment ? `${of}: ${countsInWords(moment.counts)}.${end}` : of;
    });
    setText(byId("live"), words.join(" "));
  }
}
