import assert from "node:assert/strict";
import { test } from "node:test";
import { advance, availableOf, frameOf, hasTimes, lengthOf, neighbour, PROCESS_LENGTH } from "../page/clock.js";
import { PictureRun, TextRun } from "../page/replay.js";
import { valuesInWords } from "../page/words.js";

const started = {
  type: "started",
  digits: [[0, 0], [3, 1], [null, null], [null, null]],
  pieces: ["<|endoftext|>", "sea", null, null],
  given: [true, true, false, false],
  evaluations_at_most: 4,
};
const revealed = [
  { type: "revealed", evaluation: 1, step: 2, time: 0.75, digits: [[2, 0, 5]], pieces: [], possible: [[2, 64]] },
  { type: "revealed", evaluation: 2, step: 3, time: 0.5, digits: [[2, 1, 6], [3, 1, 0]], pieces: [[2, " is"]], possible: [[3, 60]] },
  { type: "revealed", evaluation: 3, step: 7, time: 0.1, digits: [[3, 0, 0]], pieces: [[3, "<|endoftext|>"]], possible: [] },
];
const finished = { type: "finished", text: "sea is", tokens: [0, 193, 326, 0], usage: { network_evaluations: 3, idle_steps: 5 } };

function run(events = [started, ...revealed, finished]) {
  const made = new TextRun(4096);
  events.forEach((event) => made.take(event));
  return made;
}

test("every frame is what replaying its events gives", () => {
  const made = run();
  const digits = started.digits.map((each) => [...each]);
  assert.deepEqual(made.digits(0), digits);
  revealed.forEach((event, i) => {
    for (const [token, place, digit] of event.digits) digits[token][place] = digit;
    assert.deepEqual(made.digits(i + 1), digits);
  });
  assert.deepEqual(made.digits(99), digits);
});

test("a token is masked, partial, then clean, and fewer tokens are possible", () => {
  const made = run();
  const states = [0, 1, 2, 3].map((frame) => made.token(2, frame));
  assert.deepEqual(states.map(({ kind }) => kind), ["masked", "partial", "clean", "clean"]);
  assert.deepEqual(states.map(({ possible }) => possible), [4096, 64, 1, 1]);
  assert.equal(states[2].piece, " is");
  assert.equal(made.token(1, 0).kind, "given");
  assert.deepEqual(made.since(2), [1, 2]);
});

test("counts and idle steps go with the frame", () => {
  const made = run();
  const { digits, of, ...kinds } = made.moment(2).counts;
  assert.deepEqual(kinds, { masked: 0, partial: 1, clean: 1, given: 2 });
  assert.deepEqual([digits, of], [3, 4]);
  assert.deepEqual([0, 1, 2, 3].map((frame) => made.moment(frame).idle), [0, 2, 2, 5]);
});

test("idle steps are not made up where steps begin anew", () => {
  const again = { ...revealed[2], step: 0 };
  const made = run([started, revealed[0], revealed[1], again]);
  assert.equal(made.moment(3).idle, null);
});

test("what stands behind an end of text is another text", () => {
  const made = run();
  assert.equal(made.endAt(0), 4);
  assert.equal(made.endAt(3), 4);
  const early = [{ ...revealed[0], digits: [[2, 0, 0], [2, 1, 0]], pieces: [[2, "<|endoftext|>"]] }];
  assert.equal(run([started, ...early]).endAt(1), 3);
});

test("a corrector may mask a digit again", () => {
  const back = { ...revealed[1], digits: [[2, 0, null]], pieces: [], possible: [] };
  const made = run([started, revealed[0], back]);
  assert.equal(made.token(2, 2).kind, "masked");
  assert.equal(made.token(2, 2).possible, 4096);
  assert.equal(made.moment(2).counts.masked, 2);
});

test("the example is a token that was partial", () => {
  const { token, partial, last } = run().exampleToken();
  assert.deepEqual([token, partial.possible, last.piece], [2, 64, " is"]);
  assert.equal(run([started]).exampleToken(), null);
});

test("runs of different lengths share a clock of evaluations", () => {
  const long = run();
  const short = run([started, revealed[0], finished]);
  assert.equal(lengthOf([long, short], "evaluations"), 3);
  assert.deepEqual([frameOf(long, 2.9, "evaluations"), frameOf(short, 2.9, "evaluations")], [2, 1]);
  assert.equal(neighbour([long, short], 1.5, "evaluations", 1), 2);
  assert.equal(neighbour([long, short], 0, "evaluations", -1), 0);
});

test("on the clock of the process runs are at the same time", () => {
  const made = run();
  assert.ok(hasTimes(made));
  assert.deepEqual([0, 249, 250, 500, 899, 900, 1000].map((at) => frameOf(made, at, "time")), [0, 0, 1, 2, 2, 3, 3]);
  assert.equal(neighbour([made], 0, "time", 1), 250);
  assert.equal(neighbour([made], 900, "time", 1), PROCESS_LENGTH);
  assert.ok(!hasTimes(run([started, revealed[2], { ...revealed[1], evaluation: 2 }])));
});

test("the clock waits for what has not been told", () => {
  const live = run([started, revealed[0]]);
  assert.equal(lengthOf([live], "evaluations"), 4);
  assert.equal(availableOf([live], "evaluations"), 1);
  assert.equal(availableOf([live], "time"), 250);
  assert.equal(advance(0.5, 1, 10, 1), 1);
  assert.equal(advance(0.5, 0.1, 2, 4), 0.7);
  assert.equal(advance(3, 1, 10, 2), 3);
});

const blank = { type: "started", evaluations_at_most: 12, known: 0.5, given: 8, masked: 8, partial: 0, clean: 0, b64_json: "s" };
const pictures = [
  { type: "picture", evaluation: 2, known: 0.625, given: 8, masked: 5, partial: 2, clean: 1, b64_json: "a" },
  { type: "picture", evaluation: 5, known: 0.875, given: 8, masked: 1, partial: 2, clean: 5, b64_json: "b" },
];

test("pictures stay until the next one, and the last is the result", () => {
  const made = new PictureRun();
  assert.equal(made.picture(0), null);
  [blank, ...pictures].forEach((event) => made.take(event));
  assert.deepEqual([made.frames, made.framesAtMost], [5, 12]);
  made.take({ type: "finished", b64_json: "c", usage: { network_evaluations: 9 } });
  assert.deepEqual([0, 1, 2, 4, 5, 8, 9].map((frame) => made.picture(frame).png), ["s", "s", "a", "a", "b", "b", "c"]);
  assert.deepEqual([made.frames, made.framesAtMost], [9, 9]);
});

test("a picture tells how many values are masked, partial and clean, and the share of digits, of what is filled in", () => {
  const made = new PictureRun();
  [blank, ...pictures, { type: "finished", b64_json: "c", usage: { network_evaluations: 5 } }].forEach((event) => made.take(event));
  assert.deepEqual([0, 2, 5].map((frame) => made.picture(frame).known), [0, 0.25, 1]);
  assert.deepEqual([0, 2, 5].map((frame) => made.picture(frame).counts), [
    { masked: 8, partial: 0, clean: 0 },
    { masked: 5, partial: 2, clean: 1 },
    { masked: 0, partial: 0, clean: 8 },
  ]);
  assert.equal(
    valuesInWords(made.picture(2)),
    "Of 8 colour values to fill in 5 masked, 2 partial, 1 clean; 25 % of their digits known.",
  );
});
