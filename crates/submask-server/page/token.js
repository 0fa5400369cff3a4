// The dialog that asks for the server's token.

import { token } from "./api.js";
import { byId } from "./dom.js";

const USUAL = "This server asks for an access token. Whoever runs it can tell you.";

/** Opens the dialog; `refusal` says why the last token was not taken. */
export function openTokenDialog(refusal = null) {
  byId("token-reason").textContent = refusal ?? USUAL;
  byId("token-input").value = token.get();
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}

/** Offers the dialog at the head of the page, where a token is asked for or kept. */
export function offerToken(isAsked = false) {
  byId("token-open").hidden = !isAsked && token.get() === "";
}

/** `changed` is called when a token was entered or taken away. */
export function wireTokenDialog(changed) {
  offerToken();
  byId("token-open").addEventListener("click", () => openTokenDialog());
  byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
  byId("token-form").addEventListener("submit", () => {
    token.set(byId("token-input").value.trim());
    changed();
  });
}
