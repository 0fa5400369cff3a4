// One clock for all runs. A position is a number of evaluations, or, on the clock of the process, u = 1 − t in thousandths.

/** Thousandths of the process. */
export const PROCESS_LENGTH = 1000;

/** Seconds that a whole run takes at speed 1, unless that would be very fast or very slow. */
const SECONDS = 9;

/** Where the clock ends: what the longest run is known or expected to take. */
export function lengthOf(runs, clock) {
  if (clock === "time") return PROCESS_LENGTH;
  return Math.max(0, ...runs.map((run) => Math.max(run.frames, run.framesAtMost ?? 0)));
}

/** How far the clock may go: runs that are not finished cannot be shown beyond what has been told of them. */
export function availableOf(runs, clock) {
  const limits = runs.map((run) => {
    if (run.finished) return Infinity;
    if (clock !== "time") return run.frames;
    const times = run.times();
    return times.length === 0 ? 0 : times[times.length - 1] * PROCESS_LENGTH;
  });
  return Math.min(lengthOf(runs, clock), ...limits);
}

/** The evaluations that a run shows when the clock is at `position`. */
export function frameOf(run, position, clock) {
  if (clock !== "time") return Math.min(run.frames, Math.floor(position + 1e-9));
  return position >= PROCESS_LENGTH ? run.frames : run.frameAtTime(position / PROCESS_LENGTH);
}

/** Positions per second at speed 1. */
export function rateOf(length, clock) {
  return clock === "time" ? length / SECONDS : Math.max(4, length / SECONDS);
}

/** The position after `seconds` more, at most what is available. */
export function advance(position, seconds, rate, available) {
  return Math.max(position, Math.min(available, position + seconds * rate));
}

/** The next position at which some run changes, in the direction ±1. */
export function neighbour(runs, position, clock, direction) {
  const length = lengthOf(runs, clock);
  if (clock !== "time") return clamp(Math.floor(position + 1e-9) + direction, length);
  const places = runs.flatMap((run) => run.times().map((u) => u * PROCESS_LENGTH));
  places.push(0, PROCESS_LENGTH);
  const beyond = places.filter((place) => (place - position) * direction > 1e-6);
  return beyond.length === 0 ? position : (direction > 0 ? Math.min : Math.max)(...beyond);
}

function clamp(position, length) {
  return Math.max(0, Math.min(length, position));
}

/** Whether a run can be shown on the clock of the process: a run whose times fall steadily from 1. */
export function hasTimes(run) {
  const times = run.times();
  return times.length > 0 && times.every((u, i) => u >= 0 && (i === 0 || u >= times[i - 1]));
}
