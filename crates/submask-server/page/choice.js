// What is chosen: a model, a text with holes or a picture, and the settings of one or two runs.

import { Composer } from "./compose.js";
import { drawSeed, FIRST_SEED, firstTemplates, secondSettings } from "./defaults.js";
import { byId } from "./dom.js";
import { explain } from "./explain.js";
import { SettingsForm } from "./form.js";
import { fragmentOf } from "./link.js";
import { Painter } from "./painter.js";
import { OMITTED } from "./picture.js";
import { FieldError, summaryOf, valuesOf } from "./settings.js";

/** Texts above this many tokens are scored when somebody asks for it only. */
const SCORED_AT_ONCE = 512;

const LETTERS = ["a", "b"];

/** The form of the page. */
export class Choice {
  model = null;
  composer = new Composer();
  /** Templates that are tried in the place of the first one, until the user chooses. */
  spareTemplates = [];
  #stage;
  /** How often the picture or its mask was changed. */
  #paintings = 0;

  /** @param changed called when the picture or its mask are others. */
  constructor(stage, changed) {
    this.#stage = stage;
    this.painter = new Painter(() => {
      this.#paintings += 1;
      changed();
    });
    const form = (letter) => new SettingsForm(document.querySelector(`fieldset[data-run=${letter}]`), letter);
    this.forms = Object.fromEntries(LETTERS.map((letter) => [letter, form(letter)]));
    this.composer.area.addEventListener("input", () => (this.spareTemplates = []));
  }

  get isComparing() {
    return byId("compare").checked;
  }

  /** Everything but the picture. */
  get settings() {
    const { model, composer, forms } = this;
    return {
      model: model.id,
      template: model.kind === "text" ? composer.template : undefined,
      compare: this.isComparing,
      clock: this.#stage.clock,
      a: forms.a.values,
      b: forms.b.values,
    };
  }

  /** What a link says of the picture; undefined where there is none. */
  get linkedPicture() {
    return this.model.kind === "images" ? this.painter.linked : undefined;
  }

  /** The fragment of the link that restores all of it. */
  get fragment() {
    return fragmentOf({ ...this.settings, picture: this.linkedPicture });
  }

  /** Differs where a run would be another. */
  get key() {
    return `${fragmentOf({ ...this.settings, clock: undefined })} ${this.#paintings}`;
  }

  /** Takes a model with its own settings and template, or with those of a link. */
  choose(model, link) {
    const { forms } = this;
    this.model = model;
    byId("model").value = model.id;
    explain(model);
    byId("text-source").hidden = model.kind !== "text";
    byId("image-source").hidden = model.kind !== "images";
    if (model.image) this.painter.setSize(model.image);
    this.spareTemplates = [];
    if (link) this.#restore(link);
    else this.#begin();
    if (!forms.a.values.seed) forms.a.values.seed = FIRST_SEED;
    for (const letter of LETTERS) forms[letter].build(model);
    this.showComparison();
  }

  /** The page's own beginning with a model. */
  #begin() {
    const { forms, model, composer } = this;
    forms.a.values = { seed: forms.a.values.seed };
    forms.b.values = {};
    if (model.kind === "text") [composer.template, ...this.spareTemplates] = firstTemplates(model);
  }

  #restore(link) {
    if (link.template !== undefined) this.composer.template = link.template;
    byId("compare").checked = link.compare;
    this.#stage.clock = link.clock;
    for (const letter of LETTERS) this.forms[letter].set(link[letter]);
  }

  /** Takes the picture of a link, undefined being none, and tells what is wrong with it, or null. */
  async restorePicture(linked) {
    this.painter.clear();
    if (linked === undefined) return null;
    if (linked === OMITTED) return "This link does not hold the picture that was filled in, which is too large for a link.";
    if (this.model.kind !== "images") return "This link has a picture, which its model does not read.";
    try {
      await this.painter.restore(linked);
      return null;
    } catch (error) {
      return error.message;
    }
  }

  /** Shows the settings of the second run where two are compared. */
  showComparison() {
    const { forms, model, isComparing } = this;
    if (!model) return;
    document.querySelector("fieldset[data-run=b]").hidden = !isComparing;
    if (isComparing && Object.keys(forms.b.values).length === 0) forms.b.set(secondSettings(model, forms.a.values));
  }

  /**
   * What the server is to be asked: of each run its letter, the body of the request, and its settings in few words.
   *
   * @throws {Error} for what is wrong; `letter` names the run that it is about.
   */
  requests() {
    const { model, composer, painter } = this;
    if (model.kind === "points") throw new Error("This model draws points; this page shows text and images.");
    if (model.kind === "text" && composer.check()) throw new FieldError("template", composer.check());
    if (painter.isEmpty && model.kind === "images") throw new Error("Nothing of the picture is painted over: paint, or remove it.");
    const letters = this.isComparing ? LETTERS : ["a"];
    return letters.map((letter) => ({ letter, body: this.#bodyOf(letter), summary: summaryOf(model, this.forms[letter].values) }));
  }

  #bodyOf(letter) {
    const { model, composer, painter, forms } = this;
    try {
      const values = valuesOf(model, forms[letter].values);
      if (model.kind === "images") return { model: model.id, ...values, ...painter.request() };
      const length = composer.length ?? values.length ?? model.seq_len;
      const scored = length <= SCORED_AT_ONCE ? { score: {} } : {};
      return { model: model.id, template: composer.template, ...values, ...scored };
    } catch (error) {
      error.letter = letter;
      throw error;
    }
  }

  /** Draws a seed; runs that shared one still do. */
  drawSeed() {
    const { a, b } = this.forms;
    const shared = (b.values.seed || "0") === (a.values.seed || "0");
    const seed = drawSeed();
    a.setOne("seed", seed);
    if (this.isComparing) b.setOne("seed", shared ? seed : drawSeed());
  }

  /** Takes a picture, a PNG in base64, to be filled in. */
  async takePicture(png) {
    const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
    await this.painter.take(new Blob([bytes], { type: "image/png" }));
    // With the same seed, what is painted over would be drawn just as it was.
    this.forms.a.setOne("seed", drawSeed());
  }
}
