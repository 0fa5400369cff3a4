// Painting a mask on a picture: what is painted over is drawn anew.

import { byId } from "./dom.js";
import { linkedPicture, unlinkedPicture } from "./picture.js";
import { percent } from "./words.js";

const SIDE = 288;

/** The cells that a square brush covers, clipped to the picture. */
export function brushed(x, y, brush, width, height) {
  const half = (brush - 1) / 2;
  const cells = [];
  for (let row = Math.max(0, y - half); row <= Math.min(height - 1, y + half); row += 1) {
    for (let column = Math.max(0, x - half); column <= Math.min(width - 1, x + half); column += 1) {
      cells.push(row * width + column);
    }
  }
  return cells;
}

/** The cells of a straight line between two cells, both included, so that a fast stroke has no gaps. */
export function line(from, to) {
  const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
  return Array.from({ length: steps + 1 }, (_, step) => ({
    x: Math.round(from.x + ((to.x - from.x) * step) / steps),
    y: Math.round(from.y + ((to.y - from.y) * step) / steps),
  }));
}

/** A picture of the model's size, and a mask over it. */
export class Painter {
  #size = { width: 0, height: 0 };
  #mask = new Uint8Array(0);
  #picture = null;
  #at = { x: 0, y: 0 };
  #stroke = null;

  /** @param changed called when picture or mask are others. */
  constructor(changed) {
    this.changed = changed;
    this.canvas = byId("paint");
    this.canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (this.#stroke = null));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["focus", "blur"]) this.canvas.addEventListener(kind, () => this.#draw());
    byId("mask-half").addEventListener("click", () => this.#fill((x) => x >= this.#size.width / 2));
    byId("mask-none").addEventListener("click", () => this.#fill(() => false));
    byId("drop-picture").addEventListener("click", () => this.clear());
    byId("picture").addEventListener("change", (event) => this.#open(event.target));
  }

  /** The size of the model's pictures; another size removes the picture. */
  setSize(size) {
    if (size.width === this.#size.width && size.height === this.#size.height) return;
    this.#size = size;
    this.clear();
  }

  /** Takes a picture, resized to the model's size, and masks its right half. */
  async take(source) {
    if (await this.#show(source)) this.#fill((x) => x >= this.#size.width / 2);
  }

  /**
   * Takes picture and mask of a link.
   *
   * @throws {Error} for those of another size, and for what cannot be read.
   */
  async restore(linked) {
    const { png, mask } = unlinkedPicture(linked, this.#size);
    const shown = this.#show(new Blob([png], { type: "image/png" }));
    const isShown = await shown.catch(() => {
      throw new Error("The picture of this link cannot be read.");
    });
    if (!isShown) return;
    this.#mask = mask;
    this.#draw();
    this.changed();
  }

  /** Shows a picture, resized to the model's size; false where the model became another in the meantime. */
  async #show(source) {
    const size = this.#size;
    const bitmap = await createImageBitmap(source);
    if (size !== this.#size) return false;
    const { width, height } = size;
    this.#picture = sheet(width, height);
    const context = this.#picture.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    this.canvas.width = SIDE;
    this.canvas.height = Math.round((SIDE * height) / width);
    this.#at = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    byId("painter").hidden = false;
    byId("drop-picture").hidden = false;
    return true;
  }

  clear() {
    this.#picture = null;
    byId("painter").hidden = true;
    byId("drop-picture").hidden = true;
    byId("picture").value = "";
    this.changed();
  }

  /** Picture and mask as PNG in base64, for a request; nothing without a picture. */
  request() {
    if (!this.#picture) return {};
    const { width, height } = this.#size;
    const mask = sheet(width, height);
    const context = mask.getContext("2d");
    const pixels = context.createImageData(width, height);
    this.#mask.forEach((masked, cell) => pixels.data.set(masked ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * cell));
    context.putImageData(pixels, 0, 0);
    return { image: base64Of(this.#picture), mask: base64Of(mask) };
  }

  /** What a link says of picture and mask; undefined without a picture. */
  get linked() {
    return this.#picture ? linkedPicture(base64Of(this.#picture), this.#mask) : undefined;
  }

  get isEmpty() {
    return this.#picture !== null && !this.#mask.includes(1);
  }

  async #open(input) {
    const [file] = input.files;
    if (!file) return;
    try {
      await this.take(file);
    } catch {
      byId("paint-state").textContent = `${file.name} is no picture that this browser can read.`;
      byId("painter").hidden = false;
    }
  }

  #fill(isMasked) {
    const { width, height } = this.#size;
    this.#mask = Uint8Array.from({ length: width * height }, (_, cell) => Number(isMasked(cell % width)));
    this.#draw();
    this.changed();
  }

  #paint(at, erases) {
    const { width, height } = this.#size;
    const brush = Number(byId("brush").value);
    for (const cell of brushed(at.x, at.y, brush, width, height)) this.#mask[cell] = erases ? 0 : 1;
    this.changed();
  }

  #cellOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const cell = (place, length, cells) => Math.max(0, Math.min(cells - 1, Math.floor((place / length) * cells)));
    return {
      x: cell(event.clientX - box.left, box.width, this.#size.width),
      y: cell(event.clientY - box.top, box.height, this.#size.height),
    };
  }

  #begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#stroke = this.#cellOf(event);
    this.#drag(event);
  }

  #drag(event) {
    if (!this.#stroke) return;
    const to = this.#cellOf(event);
    for (const cell of line(this.#stroke, to)) this.#paint(cell, byId("erase").checked);
    this.#stroke = to;
    this.#at = to;
    this.#draw();
  }

  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      this.#at.x = Math.max(0, Math.min(this.#size.width - 1, this.#at.x + move[0]));
      this.#at.y = Math.max(0, Math.min(this.#size.height - 1, this.#at.y + move[1]));
    } else if (event.key === " " || event.key === "Backspace") {
      this.#paint(this.#at, event.key === "Backspace" || byId("erase").checked);
    } else {
      return;
    }
    event.preventDefault();
    this.#draw();
  }

  #draw() {
    if (!this.#picture) return;
    const { width, height } = this.#size;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / width;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#picture, 0, 0, this.canvas.width, this.canvas.height);
    this.#mask.forEach((masked, cell) => {
      if (masked) hatch(context, (cell % width) * scale, Math.floor(cell / width) * scale, scale);
    });
    if (document.activeElement === this.canvas) this.#drawBrush(context, scale);
    const masked = this.#mask.filter((each) => each === 1).length;
    byId("paint-state").textContent = `${percent(masked / this.#mask.length)} of the picture is to be drawn anew.`;
  }

  #drawBrush(context, scale) {
    const brush = Number(byId("brush").value);
    const corner = (place) => (place - (brush - 1) / 2) * scale;
    for (const [colour, inset] of [["black", 0], ["white", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(corner(this.#at.x) + inset, corner(this.#at.y) + inset, brush * scale - 2 * inset, brush * scale - 2 * inset);
    }
  }
}

/** A masked cell: grey with a diagonal, so that it differs from any picture. */
function hatch(context, x, y, side) {
  context.fillStyle = "rgb(128 128 128 / 0.85)";
  context.fillRect(x, y, side, side);
  context.strokeStyle = "rgb(255 255 255 / 0.8)";
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, y + side);
  context.lineTo(x + side, y);
  context.stroke();
}

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function base64Of(canvas) {
  return canvas.toDataURL("image/png").split(",")[1];
}
