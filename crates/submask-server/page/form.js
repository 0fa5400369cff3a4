// The fields of the settings of one run.

import { element } from "./dom.js";
import { FIELDS, nameOf } from "./settings.js";

/** The settings of a run as fields that appear where they have a meaning. */
export class SettingsForm {
  values = {};
  #model = null;
  #rows = new Map();

  /**
   * @param host the fieldset.
   * @param name the run, for the names of the fields.
   */
  constructor(host, name) {
    this.host = host;
    this.name = name;
    this.main = element("div", { className: "fields" });
    this.moreFields = element("div", { className: "fields" });
    const time = element("p", { className: "help" }, "In formulas u goes from 0, where nothing is known, to 1.");
    this.more = element("details", { className: "more" }, element("summary", {}, "More settings"), time, this.moreFields);
    host.append(this.main, this.more);
    host.addEventListener("input", (event) => this.#changed(event.target));
  }

  /** Fields for a model; what was typed stays where it has a meaning. */
  build(model) {
    this.#model = model;
    this.#rows.clear();
    this.main.replaceChildren();
    this.moreFields.replaceChildren();
    for (const field of FIELDS) {
      const row = this.#row(field);
      this.#rows.set(field.key, row);
      (field.more ? this.moreFields : this.main).append(row.box);
    }
    this.#fit();
  }

  #row(field) {
    const id = `${this.name}-${field.key}`;
    const input = field.choices ? this.#select(field, id) : this.#input(field, id);
    const error = element("p", { className: "field-error", id: `${id}-error`, hidden: true });
    const help = element("p", { className: field.more ? "help" : "visually-hidden", id: `${id}-help` }, field.help);
    input.setAttribute("aria-describedby", `${id}-help ${id}-error`);
    if (!field.more) input.title = field.help;
    const box = element("div", { className: "field" }, element("label", { for: id }, field.label), input, help, error);
    if (field.suggestions) box.append(this.#suggestions(field, id));
    return { box, input, error, field };
  }

  #select(field, id) {
    const select = element("select", { id });
    const fallback = field.fallback(this.#model);
    for (const value of field.choices(this.#model)) {
      select.append(element("option", { value }, value === "" ? "any" : nameOf(field.key, value)));
    }
    select.value = this.values[field.key] || fallback;
    return select;
  }

  #input(field, id) {
    const input = element("input", { id, type: "text", spellcheck: false });
    input.placeholder = field.fallback(this.#model);
    input.value = this.values[field.key] ?? "";
    if (field.suggestions) input.setAttribute("list", `${id}-list`);
    else if (field.key !== "temperature") input.inputMode = "decimal";
    return input;
  }

  #suggestions(field, id) {
    return element("datalist", { id: `${id}-list` }, ...field.suggestions.map((value) => element("option", { value })));
  }

  /** Sets all values, for instance those of a link. */
  set(values) {
    this.values = { ...values };
    if (this.#model) this.build(this.#model);
    const more = FIELDS.some((field) => field.more && this.values[field.key]);
    if (more) this.more.open = true;
  }

  setOne(key, value) {
    this.values[key] = value;
    const row = this.#rows.get(key);
    if (row) row.input.value = value;
  }

  #changed(input) {
    const row = [...this.#rows.values()].find((each) => each.input === input);
    if (!row) return;
    this.values[row.field.key] = input.value.trim();
    this.complain(row.field.key, "");
    this.#fit();
  }

  #fit() {
    for (const { box, field } of this.#rows.values()) box.hidden = !field.fits(this.#model, this.values);
    this.more.hidden = [...this.#rows.values()].every(({ box, field }) => !field.more || box.hidden);
  }

  /** Shows at a field what is wrong with it, and whether there is such a field. */
  complain(key, message) {
    const row = this.#rows.get(key);
    if (!row || row.box.hidden) return false;
    row.error.hidden = message === "";
    row.error.textContent = message;
    row.input.setAttribute("aria-invalid", String(message !== ""));
    if (message !== "") this.#reveal(row);
    return true;
  }

  #reveal({ input, field }) {
    this.host.closest("details").open = true;
    if (field.more) this.more.open = true;
    input.focus();
  }

  clearComplaints() {
    for (const key of this.#rows.keys()) this.complain(key, "");
  }
}
