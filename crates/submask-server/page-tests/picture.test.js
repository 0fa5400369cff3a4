import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenOf, fragmentOf } from "../page/link.js";
import { linkedPicture, OMITTED, packed, unlinkedPicture, unpacked } from "../page/picture.js";

const size = { width: 5, height: 3 };
const mask = Uint8Array.from([1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1]);

/** The head of a PNG of a size, and any bytes behind it. */
function png({ width, height }, more = 40) {
  const bytes = Buffer.from(Array.from({ length: 24 + more }, (_, i) => (i * 151) % 256));
  bytes.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52]);
  bytes.writeUInt32BE(width, 16);
  bytes.writeUInt32BE(height, 20);
  return bytes;
}

test("a mask takes a bit of a byte per cell", () => {
  assert.deepEqual([...packed(mask)], [0b10011010, 0b11000110]);
  for (let cells = 1; cells <= mask.length; cells += 1) {
    const first = mask.slice(0, cells);
    assert.equal(packed(first).length, Math.ceil(cells / 8));
    assert.deepEqual(unpacked(packed(first), cells), first);
  }
});

test("a link holds a picture and its mask", () => {
  const bytes = png(size);
  const picture = linkedPicture(bytes.toString("base64"), mask);
  assert.match(picture.png + picture.mask, /^[\w-]+$/, "nothing has to be escaped in an address");
  const chosen = { model: "m", compare: false, clock: "evaluations", a: { seed: "1" }, b: {}, picture };
  const restored = chosenOf(`#${fragmentOf(chosen)}`);
  assert.deepEqual(restored, { chosen, unknown: [] });
  const { png: read, mask: cells } = unlinkedPicture(restored.chosen.picture, size);
  assert.deepEqual(Buffer.from(read), bytes);
  assert.deepEqual(cells, mask);
});

test("what takes more than 8,192 characters together is left out of a link, which says so", () => {
  // Bytes that take as many characters as they may, beside the 3 characters of the mask.
  const most = Math.floor(((8192 - 3) * 3) / 4) - 24;
  const { png: text, mask: cells } = linkedPicture(png(size, most).toString("base64"), mask);
  assert.ok(text.length + cells.length <= 8192 && text.length + cells.length > 8190);
  assert.equal(linkedPicture(png(size, most + 2).toString("base64"), mask), OMITTED);
  const large = linkedPicture(png(size).toString("base64"), new Uint8Array(8 * 6200));
  assert.equal(large, OMITTED);
  const chosen = { model: "m", compare: false, clock: "evaluations", a: {}, b: {}, picture: OMITTED };
  assert.deepEqual(chosenOf(fragmentOf(chosen)), { chosen, unknown: [] });
});

test("a picture of another size, no picture, and a mask that does not fit are refused", () => {
  const good = linkedPicture(png(size).toString("base64"), mask);
  const other = linkedPicture(png({ width: 6, height: 3 }).toString("base64"), mask);
  assert.throws(() => unlinkedPicture(other, size), /has 6 × 3 pixels; those of the model have 5 × 3/);
  for (const wrong of ["", "AAAA", "%%%", "iVBOR", good.png.slice(0, 20), "A".repeat(60)]) {
    assert.throws(() => unlinkedPicture({ ...good, png: wrong }, size), /no PNG/, wrong);
  }
  for (const wrong of ["", "AA", "AAAA", "A", "ü"]) {
    assert.throws(() => unlinkedPicture({ ...good, mask: wrong }, size), /mask of this link does not fit/, wrong);
  }
  const { chosen } = chosenOf("#model=m&mask=AAA");
  assert.throws(() => unlinkedPicture(chosen.picture, size), /no PNG/);
});
