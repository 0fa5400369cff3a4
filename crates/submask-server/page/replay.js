// A run as it was told, and its state after any number of evaluations.

/** How much of a token is known. */
export function kindOf(digits, given) {
  const known = digits.filter((digit) => digit !== null).length;
  if (known === digits.length) return given ? "given" : "clean";
  return known === 0 ? "masked" : "partial";
}

/** The last entry of a list that is ascending by `at` whose `at` is not above `frame`. */
export function lastUpTo(entries, frame) {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle].at <= frame) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? null : entries[low - 1];
}

/**
 * A run of text. Frame k is the state after k evaluations; every token has a list of its states, so that any frame is found
 * without replaying those before it.
 */
export class TextRun {
  kind = "text";
  /** Evaluations told so far. */
  frames = 0;
  /** The most there can be, where that is known before the end. */
  framesAtMost = null;
  finished = null;
  #tokens = [];
  #moments = [];

  /** @param {number} vocabSize tokens that are possible where nothing is known. */
  constructor(vocabSize) {
    this.vocabSize = vocabSize;
  }

  get length() {
    return this.#tokens.length;
  }

  /** Takes the event of a stream. */
  take(event) {
    if (event.type === "started") this.#start(event);
    else if (event.type === "revealed") this.#reveal(event);
    else if (event.type === "finished") this.#finish(event);
  }

  #start(event) {
    const possible = new Map(event.possible ?? []);
    this.framesAtMost = event.evaluations_at_most ?? null;
    this.#tokens = event.digits.map((digits, i) => {
      const piece = event.pieces?.[i] ?? null;
      const given = event.given?.[i] ?? false;
      const state = { at: 0, digits, piece, possible: this.#possible(digits, possible.get(i)) };
      return { given, states: [state], since: digits.map(() => null) };
    });
    this.#moments = [{ at: 0, step: null, time: 1, idle: 0, counts: this.#count() }];
  }

  #possible(digits, told) {
    const known = digits.filter((digit) => digit !== null).length;
    if (known === digits.length) return 1;
    return told ?? (known === 0 ? this.vocabSize : null);
  }

  #reveal(event) {
    const at = event.evaluation ?? this.frames + 1;
    this.frames = Math.max(this.frames, at);
    const pieces = new Map(event.pieces ?? []);
    const possible = new Map(event.possible ?? []);
    const counts = { ...this.#last.counts };
    for (const [i, changes] of byToken(event.digits)) {
      this.#change(i, at, changes, pieces.get(i), possible.get(i), counts);
    }
    this.#moments.push({ at, step: event.step, time: event.time, idle: this.#idle(event, at), counts });
  }

  get #last() {
    return this.#moments[this.#moments.length - 1];
  }

  #change(i, at, changes, piece, possible, counts) {
    const token = this.#tokens[i];
    const before = token.states[token.states.length - 1];
    const digits = [...before.digits];
    for (const [place, digit] of changes) {
      digits[place] = digit;
      token.since[place] = digit === null ? null : at;
    }
    const state = { at, digits, piece: piece ?? null, possible: this.#possible(digits, possible) };
    if (before.at === at) token.states.pop();
    token.states.push(state);
    counts[kindOf(before.digits, token.given)] -= 1;
    counts[kindOf(digits, token.given)] += 1;
    if (!token.given) counts.digits += knownIn(digits) - knownIn(before.digits);
  }

  /** Steps skipped so far; null where steps do not tell, as when they begin anew with every block. */
  #idle(event, at) {
    const last = this.#last;
    const falls = last.idle === null || (last.step !== null && event.step <= last.step);
    const idle = event.step + 1 - at;
    return falls || !Number.isInteger(idle) || idle < 0 ? null : idle;
  }

  #count() {
    const counts = { masked: 0, partial: 0, clean: 0, given: 0, digits: 0, of: 0 };
    for (const { states, given } of this.#tokens) {
      counts[kindOf(states[0].digits, given)] += 1;
      if (given) continue;
      counts.digits += knownIn(states[0].digits);
      counts.of += states[0].digits.length;
    }
    return counts;
  }

  #finish(event) {
    this.finished = event;
    this.framesAtMost = this.frames;
  }

  /** Token i after `frame` evaluations: digits, piece, possible tokens, since which evaluation, kind. */
  token(i, frame) {
    const { given, states } = this.#tokens[i];
    const state = lastUpTo(states, frame);
    return { ...state, given, kind: kindOf(state.digits, given) };
  }

  /** At which evaluation each digit of token i came to be known, as far as told. */
  since(i) {
    return this.#tokens[i].since;
  }

  /** What holds of the whole run after `frame` evaluations. */
  moment(frame) {
    return lastUpTo(this.#moments, frame);
  }

  /** Digits of all tokens after `frame` evaluations. */
  digits(frame) {
    return this.#tokens.map((_, i) => this.token(i, frame).digits);
  }

  /** The evaluations that have happened when the process is at u = 1 − t. */
  frameAtTime(u) {
    const past = this.#moments.filter((moment) => moment.at > 0 && 1 - moment.time <= u + 1e-9);
    return past.length === 0 ? 0 : past[past.length - 1].at;
  }

  /** u = 1 − t of every evaluation; empty where times are not told. */
  times() {
    return this.#moments.slice(1).map((moment) => 1 - moment.time).filter(Number.isFinite);
  }

  /** The first token behind an end of text that the model wrote: what follows is another text. */
  endAt(frame) {
    const end = this.#endDigits();
    if (!end) return this.length;
    const lastGiven = this.#tokens.findLastIndex((token) => token.given);
    for (let i = lastGiven + 1; i < this.length; i += 1) {
      if (this.token(i, frame).digits.join() === end) return i + 1;
    }
    return this.length;
  }

  /** Whether token i is the end of another text, behind which this one begins. */
  isStart(i) {
    const { given, states } = this.#tokens[i] ?? {};
    return i === 0 && given === true && isSpecial(states[0].piece);
  }

  /** Digits of the end of text, known where a sequence begins with one. */
  #endDigits() {
    return this.isStart(0) ? this.#tokens[0].states[0].digits.join() : null;
  }

  /** A token that the model filled in and that went through a partial state: the best one to explain that with. */
  exampleToken() {
    let found = null;
    for (let i = 0; i < this.length; i += 1) {
      const { given, states } = this.#tokens[i];
      const last = states[states.length - 1];
      if (given || !last.piece || isSpecial(last.piece)) continue;
      const partial = states.find((state) => kindOf(state.digits, false) === "partial");
      if (!partial) continue;
      const word = /^\s?[\p{L}]{3,}$/u.test(last.piece);
      if (word) return { token: i, partial, last };
      found ??= { token: i, partial, last };
    }
    return found;
  }
}

function knownIn(digits) {
  return digits.filter((digit) => digit !== null).length;
}

function byToken(changes) {
  const tokens = new Map();
  for (const [token, place, digit] of changes) {
    if (!tokens.has(token)) tokens.set(token, []);
    tokens.get(token).push([place, digit]);
  }
  return tokens;
}

/** Whether a piece is a sign such as the end of text. */
export function isSign(piece) {
  return /^<[^<>\s]+>$/.test(piece ?? "");
}

/** Whether a piece shows no text of its own. */
export function isSpecial(piece) {
  return piece === "" || isSign(piece);
}

/** A run of images: pictures after some of the evaluations. */
export class PictureRun {
  kind = "images";
  frames = 0;
  framesAtMost = null;
  finished = null;
  #pictures = [];

  take(event) {
    if (event.type === "started") this.#start(event);
    else if (event.type === "picture") this.#add(event.evaluation, filledIn(event), event.b64_json);
    else if (event.type === "finished") this.#finish(event);
  }

  #start(event) {
    this.framesAtMost = event.evaluations_at_most;
    this.#add(0, filledIn(event), event.b64_json);
  }

  #add(at, filled, png) {
    this.frames = Math.max(this.frames, at);
    this.#pictures.push({ at, png, ...filled });
  }

  #finish(event) {
    const evaluations = event.usage.network_evaluations;
    const { counts } = this.#pictures[0];
    const last = this.#pictures[this.#pictures.length - 1];
    if (last.at > 0 && last.at >= evaluations) this.#pictures.pop();
    const clean = counts.masked + counts.partial + counts.clean;
    this.#add(evaluations, { known: 1, counts: { masked: 0, partial: 0, clean } }, event.b64_json);
    this.finished = event;
    this.framesAtMost = this.frames;
  }

  /**
   * The picture after `frame` evaluations: `{at, png, known, counts}`; null before the first. `known` is the share of known digits
   * and `counts` how many values are masked, partial and clean, both of the values that are to be filled in.
   */
  picture(frame) {
    return lastUpTo(this.#pictures, frame);
  }

  times() {
    return [];
  }
}

/** How far the values that are to be filled in are, of an event that counts all digits, given ones included. */
function filledIn({ known, given, masked, partial, clean }) {
  const toFill = masked + partial + clean;
  return { known: (known * (given + toFill) - given) / toFill, counts: { masked, partial, clean } };
}
