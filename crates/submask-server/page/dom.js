// Small functions around the document.

/** The element of an id. */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * An element with properties and children. Properties whose names begin with `aria-`, `data-` or `role` are attributes.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(aria-|data-|role$|for$|list$)/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets a text only where it differs, which spares screen readers and layout. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Whether the user asked for less motion. */
export function wantsStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Calls `then` once things are quiet for so many milliseconds. */
export function debounced(milliseconds, then) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => then(...given), milliseconds);
  };
}

/** Has the browser save a file. */
export function download(name, blob) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
