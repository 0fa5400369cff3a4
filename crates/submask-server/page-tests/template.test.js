import assert from "node:assert/strict";
import { test } from "node:test";
import { escaped, partsOf, problemOf, selectionOf, tokensOf, withHole } from "../page/template.js";

const kinds = (template) => partsOf(template).map(({ kind, source }) => [kind, source]);

test("parts make up the template", () => {
  const template = "lantern: [[12]] light \\[[1]] [[*]]";
  assert.deepEqual(kinds(template), [
    ["text", "lantern: "],
    ["hole", "[[12]]"],
    ["text", " light \\[[1]] "],
    ["hole", "[[*]]"],
  ]);
  for (const each of ["", "x", "[[3]][[ 4 ]]", "[[", "a [[0]] b", template]) {
    assert.equal(partsOf(each).map(({ source }) => source).join(""), each);
  }
});

test("what is no hole is told", () => {
  assert.equal(problemOf("a [[ 5 ]] b [[*]]"), null);
  assert.match(problemOf("a [[5"), /not closed/);
  for (const wrong of ["[[0]]", "[[x]]", "[[]]", "[[-1]]", "[[1.5]]"]) assert.match(problemOf(wrong), /not a hole/);
  assert.match(problemOf("[[*]] more"), /Nothing can follow/);
  assert.match(problemOf("[[*]][[2]]"), /Nothing can follow/);
});

test("a selection becomes a hole and leaves the rest", () => {
  const template = "a warm light here";
  const { start, end } = selectionOf(template, 2, 13);
  assert.equal(template.slice(start, end), " warm light");
  const made = withHole(template, start, end, 4);
  assert.equal(made.template, "a[[4]] here");
  assert.equal(made.template.slice(made.start, made.end), "[[4]]");
});

test("a hole that a selection touches becomes part of the new one", () => {
  assert.equal(withHole("a [[5]] b", 4, 9, 3).template, "a [[3]]");
  assert.equal(withHole("a [[5]] b", 9, 9, 3).template, "a [[5]] b[[3]]");
});

test("the guess of tokens is at least one and grows with the text", () => {
  assert.equal(tokensOf("a"), 1);
  assert.equal(tokensOf("four letter words", 3.4), 5);
  assert.equal(kinds(escaped("[[5]]")).length, 1);
  assert.equal(kinds(escaped("[[5]]"))[0][0], "text");
});
