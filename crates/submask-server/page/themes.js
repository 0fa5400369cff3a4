// The switch between light, dark and what the system says.

import { byId, setText } from "./dom.js";

const THEMES = ["auto", "light", "dark"];

/** Makes the button of the head go through the themes. */
export function wireThemes() {
  byId("theme").addEventListener("click", next);
  show();
}

function next() {
  const root = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem("submask-theme", theme);
  } catch {
    // It holds until the page is left.
  }
  show();
}

function show() {
  setText(byId("theme"), `Theme: ${document.documentElement.dataset.theme ?? "auto"}`);
}
