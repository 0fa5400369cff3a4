// Where chips stand in a picture of a run.

/**
 * Breaks boxes into lines. A box that is wider than a line stands alone and is as wide as the line.
 *
 * @param {{width: number, breaks?: boolean}[]} boxes; `breaks` ends the line behind the box.
 * @returns {{places: {x: number, y: number, width: number}[], height: number}}
 */
export function flow(boxes, { width, lineHeight, gap }) {
  const places = [];
  let x = 0;
  let y = 0;
  for (const box of boxes) {
    const wide = Math.min(box.width, width);
    if (x > 0 && x + wide > width) {
      x = 0;
      y += lineHeight + gap;
    }
    places.push({ x, y, width: wide });
    x += wide + gap;
    if (box.breaks) x = width + 1;
  }
  return { places, height: boxes.length === 0 ? 0 : y + lineHeight };
}

/** Breaks words into lines of at most `width`, where `measure` tells how wide a text is. */
export function wrap(text, width, measure) {
  const lines = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      const longer = line === "" ? word : `${line} ${word}`;
      if (line !== "" && measure(longer) > width) {
        lines.push(line);
        line = word;
      } else {
        line = longer;
      }
    }
    lines.push(line);
  }
  return lines;
}
