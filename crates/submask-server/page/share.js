// What can be taken along: a link that restores the page, and runs as files.

import { byId, download, setText } from "./dom.js";
import { OMITTED } from "./picture.js";
import { jsonOf, pngOf, shownOn } from "./save.js";

/** Wires the buttons below the stage; `runs` gives the runs on it. */
export function wireSharing(choice, runs, problems) {
  byId("share").addEventListener("click", () => copyLink(choice));
  byId("save-json").addEventListener("click", () => saveJson(choice, runs()));
  byId("save-png").addEventListener("click", () => savePng(choice, runs()).catch((error) => problems.show(error)));
}

/** Puts what is chosen into the address of the page. */
export function showInAddress(choice) {
  history.replaceState(null, "", `#${choice.fragment}`);
}

/** Offers what complete runs can be saved as. */
export function offerFiles(choice, runs) {
  const complete = runs.length > 0 && runs.every(({ run }) => run.finished);
  byId("save-json").disabled = !complete;
  byId("save-png").disabled = !complete;
  byId("use-result").disabled = !(complete && choice.model.kind === "images");
}

function linkOf(choice) {
  return `${location.href.split("#")[0]}#${choice.fragment}`;
}

async function copyLink(choice) {
  const link = linkOf(choice);
  showInAddress(choice);
  const picture = pictureInWords(choice.linkedPicture);
  try {
    await navigator.clipboard.writeText(link);
    setText(byId("share-state"), `Link copied.${picture}`);
  } catch {
    byId("link-box").hidden = false;
    byId("link").value = link;
    byId("link").select();
    setText(byId("share-state"), `Copy the link below.${picture}`);
  }
}

function pictureInWords(linked) {
  if (linked === undefined) return "";
  return linked === OMITTED ? " It does not hold the picture, which is too large for a link." : " It holds the picture and its mask.";
}

function fileName(choice, ending) {
  return `${choice.model.id.replace(/[^\w.-]+/g, "-")}-${choice.forms.a.values.seed || 0}.${ending}`;
}

function saveJson(choice, runs) {
  const saved = runs.map(({ letter, body, events, score }) => ({ run: letter, request: body, events, score }));
  download(fileName(choice, "json"), jsonOf({ link: linkOf(choice), model: choice.model, runs: saved }));
  setText(byId("share-state"), "JSON saved.");
}

async function savePng(choice, runs) {
  const { model, composer } = choice;
  const panels = runs.map(({ panel, summary }) => shownOn(panel, summary));
  download(fileName(choice, "png"), await pngOf(panels, model.kind === "text" ? `${model.id}: ${composer.template}` : model.id));
  setText(byId("share-state"), "PNG saved.");
}
