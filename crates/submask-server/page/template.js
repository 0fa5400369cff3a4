// Templates: text with holes. `[[5]]` is a hole of five tokens, `[[*]]` one up to the end, `\[[` two brackets.

/** Characters per token that are assumed before a run has told. */
export const USUAL_CHARACTERS = 3.2;

/**
 * The parts of a template, in order: `{kind: "text" | "hole" | "wrong", source, start, end}`, where a hole has `tokens`, a number
 * or "rest", and what is wrong has a `problem`.
 */
export function partsOf(template) {
  const parts = [];
  let from = 0;
  let at = 0;
  const text = (end) => end > from && parts.push(part("text", template, from, end));
  while ((at = template.indexOf("[[", at)) >= 0) {
    if (template[at - 1] === "\\") {
      at += 2;
      continue;
    }
    text(at);
    const close = template.indexOf("]]", at + 2);
    const end = close < 0 ? template.length : close + 2;
    parts.push(holeOf(template, at, end, close >= 0));
    from = at = end;
  }
  text(template.length);
  return parts;
}

function part(kind, template, start, end) {
  return { kind, source: template.slice(start, end), start, end };
}

function holeOf(template, start, end, closed) {
  const hole = part("hole", template, start, end);
  if (!closed) return { ...hole, kind: "wrong", problem: "“[[” is not closed by “]]”." };
  const inside = hole.source.slice(2, -2).trim();
  if (inside === "*") return { ...hole, tokens: "rest" };
  if (/^\+?\d+$/.test(inside) && Number(inside) > 0) return { ...hole, tokens: Number(inside) };
  return { ...hole, kind: "wrong", problem: `“${hole.source}” is not a hole: write [[5]] or [[*]].` };
}

/** What is wrong with a template, or null. */
export function problemOf(template) {
  const parts = partsOf(template);
  const wrong = parts.find((each) => each.kind === "wrong");
  if (wrong) return wrong.problem;
  const rest = parts.findIndex((each) => each.tokens === "rest");
  if (rest >= 0 && rest < parts.length - 1) return "Nothing can follow “[[*]]”, which reaches to the end.";
  return null;
}

/** About how many tokens a text has, at least one. */
export function tokensOf(text, charactersPerToken = USUAL_CHARACTERS) {
  return Math.max(1, Math.round(text.length / charactersPerToken));
}

/**
 * Replaces `start..end` of a template by a hole. Holes that the selection touches become part of it. Spaces at its ends go
 * into the hole, too: most tokens begin with their space.
 *
 * @returns {{template: string, start: number, end: number}} with where the hole stands.
 */
export function withHole(template, start, end, tokens) {
  for (const each of partsOf(template)) {
    if (each.kind !== "text" && each.start < end && each.end > start) {
      start = Math.min(start, each.start);
      end = Math.max(end, each.end);
    }
  }
  const hole = `[[${tokens}]]`;
  return {
    template: template.slice(0, start) + hole + template.slice(end),
    start,
    end: start + hole.length,
  };
}

/** A selection as it becomes a hole: without spaces behind it, and with the one before it. */
export function selectionOf(template, start, end) {
  while (end > start && /\s/.test(template[end - 1])) end -= 1;
  while (start < end && /\s/.test(template[start])) start += 1;
  if (end > start && template[start - 1] === " ") start -= 1;
  return { start, end };
}

/** A text in which nothing is a hole. */
export function escaped(text) {
  return text.replaceAll("[[", "\\[[");
}
