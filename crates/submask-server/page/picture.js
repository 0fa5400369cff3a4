// A picture and its mask as text that fits into a link.

/** The most characters of a link that picture and mask take together: more than that, not every program passes on. */
const LARGEST = 8192;

/** What stands in a link for a picture that is too large. */
export const OMITTED = "omitted";

/** How a PNG begins: its signature, and the head of its first chunk, behind which width and height stand. */
const PNG_HEAD = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52];

/**
 * What a link says of a picture, given as PNG in base64, and of its mask: `{png, mask}`, or `OMITTED` where they are too large.
 */
export function linkedPicture(png, mask) {
  const linked = { png: urlSafe(png), mask: urlSafe(base64Of(packed(mask))) };
  return linked.png.length + linked.mask.length <= LARGEST ? linked : OMITTED;
}

/**
 * What a link's picture holds: `{png, mask}`, bytes of a PNG and cells of a mask.
 *
 * @throws {Error} for what is no picture of this size, and no mask over it.
 */
export function unlinkedPicture({ png, mask }, { width, height }) {
  const bytes = bytesOf(png);
  const size = bytes && sizeOf(bytes);
  if (!size) throw new Error("The picture of this link is no PNG.");
  if (size.width !== width || size.height !== height) {
    throw new Error(`The picture of this link has ${size.width} × ${size.height} pixels; those of the model have ${width} × ${height}.`);
  }
  const cells = bytesOf(mask ?? "");
  if (cells?.length !== Math.ceil((width * height) / 8)) throw new Error("The mask of this link does not fit its picture.");
  return { png: bytes, mask: unpacked(cells, width * height) };
}

/** Eight cells of a mask per byte, the first one in the highest bit. */
export function packed(mask) {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  mask.forEach((masked, cell) => {
    if (masked) bytes[cell >> 3] |= 0x80 >> (cell & 7);
  });
  return bytes;
}

/** The first `cells` cells of a packed mask. */
export function unpacked(bytes, cells) {
  return Uint8Array.from({ length: cells }, (_, cell) => (bytes[cell >> 3] >> (7 - (cell & 7))) & 1);
}

/** Width and height of a PNG; null for anything else. */
function sizeOf(bytes) {
  if (bytes.length < 24 || !PNG_HEAD.every((byte, at) => bytes[at] === byte)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

function base64Of(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function urlSafe(base64) {
  return base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** The bytes of base64 in its form for addresses; null for anything else. */
function bytesOf(text) {
  if (!/^[\w-]*$/.test(text) || text.length % 4 === 1) return null;
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}
