// A run as a file: everything that was told, as JSON, or what is on the stage, as PNG.

import { chipText } from "./chips.js";
import { element } from "./dom.js";
import { flow, wrap } from "./layout.js";

const WIDTH = 760;
const MARGIN = 24;
const CHIP_HEIGHT = 44;
const GAP = 6;
const SCALE = 2;

/** The file of JSON: the link that restores it, the model, and of every run its request, events and score. */
export function jsonOf({ link, model, runs }) {
  const file = { format: "submask-run", version: 1, saved: new Date().toISOString(), link, model, runs };
  return new Blob([JSON.stringify(file, null, 1)], { type: "application/json" });
}

/** What a panel shows now: letter, summary, lines of numbers, tokens or a picture, and the text if it is complete. */
export function shownOn(panel, summary) {
  const { letter, run, frame } = panel;
  const statistics = [...panel.host.querySelectorAll(".statistics > div")];
  const lines = [statistics.map((box) => `${box.querySelector("dt").textContent}: ${box.querySelector("dd").textContent}`).join("   ")];
  if (panel.isAtEnd() && panel.likelihood) lines.push(panel.likelihood.textContent);
  const shown = { letter, summary, lines, text: panel.isAtEnd() ? run.finished.text : undefined };
  if (run.kind === "images") return { ...shown, picture: run.picture(frame)?.png };
  return { ...shown, tokens: Array.from({ length: run.length }, (_, i) => ({ ...run.token(i, frame), isStart: run.isStart(i) })) };
}

/** The picture of panels, each as `shownOn` tells. */
export async function pngOf(panels, title) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const colours = coloursOf();
  const pictures = await Promise.all(panels.map((panel) => (panel.picture ? decoded(panel.picture) : null)));
  const measured = paint(context, colours, panels, pictures, title);
  canvas.width = WIDTH * SCALE;
  canvas.height = measured * SCALE;
  context.scale(SCALE, SCALE);
  context.fillStyle = colours.card;
  context.fillRect(0, 0, WIDTH, measured);
  paint(context, colours, panels, pictures, title);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** The page's colours as they are now, light or dark. */
function coloursOf() {
  const names = ["card", "ink", "quiet", "masked-line", "partial", "partial-line", "partial-ink", "clean", "clean-line", "clean-ink"];
  const probe = element("span", { hidden: true });
  document.body.append(probe);
  const resolved = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(resolved);
}

async function decoded(png) {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  return image;
}

/** Paints everything and returns how high it is. */
function paint(context, colours, panels, pictures, title) {
  let y = MARGIN;
  const write = (text, font, colour, step) => {
    context.font = font;
    context.fillStyle = colour;
    context.textAlign = "left";
    context.textBaseline = "top";
    for (const line of wrap(text, WIDTH - 2 * MARGIN, (part) => context.measureText(part).width)) {
      context.fillText(line, MARGIN, y);
      y += step;
    }
  };
  write(title, "600 17px system-ui, sans-serif", colours.ink, 28);
  panels.forEach((panel, i) => {
    write(`${panel.letter}  ${panel.summary}`, "600 14px system-ui, sans-serif", colours.ink, 21);
    for (const line of panel.lines) write(line, "13px system-ui, sans-serif", colours.quiet, 19);
    y += 8;
    y += panel.tokens ? paintChips(context, colours, panel.tokens, y) : paintPicture(context, pictures[i], y);
    y += 12;
    if (panel.text) write(panel.text, "15px system-ui, sans-serif", colours.ink, 22);
    y += 16;
  });
  write("submask", "12px system-ui, sans-serif", colours.quiet, 16);
  return y + MARGIN / 2;
}

function paintPicture(context, image, y) {
  if (!image) return 0;
  const scale = Math.max(1, Math.floor(320 / image.width));
  context.imageSmoothingEnabled = false;
  context.drawImage(image, MARGIN, y, image.width * scale, image.height * scale);
  return image.height * scale;
}

function paintChips(context, colours, tokens, y) {
  const boxes = tokens.map((token) => ({ width: chipWidth(context, token), breaks: /\n/.test(token.piece ?? "") }));
  const { places, height } = flow(boxes, { width: WIDTH - 2 * MARGIN, lineHeight: CHIP_HEIGHT, gap: GAP });
  tokens.forEach((token, i) => paintChip(context, colours, token, { ...places[i], x: places[i].x + MARGIN, y: places[i].y + y }));
  return height;
}

const chipFont = "15px system-ui, sans-serif";
const digitFont = "10px ui-monospace, monospace";

function digitWords(token) {
  return token.digits.map((digit) => digit ?? "·").join(" ");
}

function chipWidth(context, token) {
  context.font = chipFont;
  const words = context.measureText(chipText(token)).width;
  context.font = digitFont;
  return Math.max(words, context.measureText(digitWords(token)).width, 24) + 14;
}

function paintChip(context, colours, token, { x, y, width }) {
  const look = {
    given: [null, null, colours.ink],
    masked: [null, colours["masked-line"], colours.quiet],
    partial: [colours.partial, colours["partial-line"], colours["partial-ink"]],
    clean: [colours.clean, colours["clean-line"], colours["clean-ink"]],
  }[token.kind];
  const [fill, line, ink] = look;
  const share = width / token.digits.length;
  token.digits.forEach((digit, place) => {
    if (!fill || digit === null) return;
    context.fillStyle = fill;
    context.fillRect(x + place * share, y, share, CHIP_HEIGHT);
  });
  if (line) {
    context.strokeStyle = line;
    context.setLineDash(token.kind === "masked" ? [4, 3] : []);
    context.strokeRect(x + 0.5, y + 0.5, width - 1, CHIP_HEIGHT - 1);
    context.setLineDash([]);
  }
  context.fillStyle = ink;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = chipFont;
  context.fillText(chipText(token), x + width / 2, y + 15, width - 6);
  context.font = digitFont;
  context.fillText(digitWords(token), x + width / 2, y + 34, width - 4);
}
