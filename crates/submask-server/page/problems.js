// Where the page tells what is wrong: at the field that it is about, below the form, or on the stage.

import { ServerError, token } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { offerToken, openTokenDialog } from "./token.js";

/** Tells errors of a form, and of the server. */
export class Problems {
  #choice;
  #stage;

  constructor(choice, stage) {
    this.#choice = choice;
    this.#stage = stage;
  }

  clear() {
    this.hide();
    this.#choice.composer.complain("");
    for (const form of Object.values(this.#choice.forms)) form.clearComplaints();
  }

  /** Hides what stands below the form. */
  hide() {
    byId("problem").hidden = true;
  }

  /** Shows an error at its field, or below the form. */
  show(error, letter = "a") {
    this.#stage.pause();
    if (!this.showAtField(error, letter)) this.complain(error.message);
  }

  /** Shows an error at what it is about, if it is about a field or the access token. */
  showAtField(error, letter) {
    const { composer, forms } = this.#choice;
    if (error instanceof ServerError && error.status === 401) {
      offerToken(true);
      openTokenDialog(token.get() === "" ? null : error.message);
      return false;
    }
    if (["template", "prompt"].includes(error.field)) {
      composer.complain(error.message);
      return true;
    }
    return Boolean(error.field) && forms[letter].complain(error.field, error.message);
  }

  /** Says below the form what is wrong. */
  complain(message) {
    byId("problem").hidden = false;
    setText(byId("problem"), message);
  }

  /** Says on the stage why there is nothing on it. */
  showOnStage(error) {
    const isClosed = error.status === 401;
    if (!this.showAtField(error, "a") && !isClosed) this.complain(error.message);
    const words = isClosed ? "The server asks for an access token. " : error.message;
    const status = element("p", { className: "panel-status" }, words);
    if (isClosed) {
      const button = element("button", { type: "button" }, "Enter it");
      button.addEventListener("click", () => openTokenDialog());
      status.append(button);
    }
    byId("panels").replaceChildren(element("div", { className: "card panel" }, status));
  }
}
