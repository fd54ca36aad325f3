// What is shown, and it all stands in the address: a reload, a bookmark and the back button show it again.

const DEFAULT_LAST_S = 300;
// How late points may come.
const LATE_S_MAX = 7200;
const TEXTS = ["metric", "q", "level", "kind", "source", "by", "of", "scale"];
const NUMBERS = ["last", "start", "end", "at"];

const listeners = [];
// The ranges before the last zooms since the page was opened.
const ZOOMS_MAX = 50;
const zooms = [];

/** What the address says. */
export function state() {
  const given = new URLSearchParams(location.search);
  const state = {};
  for (const key of TEXTS) state[key] = given.get(key) ?? "";
  for (const key of NUMBERS) {
    const number = Number.parseInt(given.get(key) ?? "", 10);
    state[key] = Number.isSafeInteger(number) && number > 0 ? number : null;
  }
  if (!(state.start && state.end && state.start < state.end)) state.start = state.end = null;
  state.last = state.start ? null : (state.last ?? DEFAULT_LAST_S);
  state.view = state.metric ? "metric" : given.get("view") === "overview" ? "overview" : "metrics";
  return state;
}

/** The address of a state with these changes; `view` is told by `metric` and `view`. */
export function address(changes = {}) {
  const next = { ...state(), ...changes };
  const given = new URLSearchParams();
  if (next.view === "overview" && !changes.metric) given.set("view", "overview");
  for (const key of [...TEXTS, ...NUMBERS]) {
    const value = next[key];
    if (value && !(key === "last" && value === DEFAULT_LAST_S)) given.set(key, value);
  }
  const query = given.toString();
  return query ? `/?${query}` : "/";
}

/** Shows something else. What is replaced is not left behind for the back button. */
export function go(changes, { replace = false } = {}) {
  const to = address(changes);
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  tell();
}

/** Calls `listener` with the state whenever it changes. */
export function watch(listener) {
  listeners.push(listener);
}

function tell() {
  const now = state();
  for (const listener of listeners) listener(now);
}
addEventListener("popstate", tell);

/** The seconds shown, `now` being the newest. */
export function range(now) {
  const { start, end, last } = state();
  return start ? { start, end } : { start: now - last, end: now };
}

/** The shortest time between two drawings of one chart, in milliseconds: an hour does not change visibly
 * every second. */
export function pace_ms({ last } = state()) {
  return 1000 * Math.min(60, Math.max(0.5, (last ?? 0) / 1000));
}

/** After how many milliseconds a chart of the newest seconds has moved on, though nothing came. */
export function slide_ms({ last } = state()) {
  return last ? 1000 * Math.min(60, Math.max(5, last / 150)) : Infinity;
}

/** Whether all that is shown lies so far back that nothing is added to it any more. */
export function isPast(now) {
  const { end } = state();
  return end !== null && end < now - LATE_S_MAX;
}

/** The range as the server takes it. */
export function rangeParams({ start, end, last } = state()) {
  return start ? { start, end } : { last };
}

/** Shows the seconds from `start` to `end`; `unzoom` goes back. */
export function zoom(start, end) {
  const { start: oldStart, end: oldEnd, last } = state();
  zooms.push({ start: oldStart, end: oldEnd, last });
  if (zooms.length > ZOOMS_MAX) zooms.shift();
  go({ start: Math.floor(start), end: Math.ceil(end), last: null });
}

/** Whether there is a zoom to undo. */
export function canUnzoom() {
  return zooms.length > 0;
}

/** Shows the range before the last zoom. */
export function unzoom() {
  const before = zooms.pop();
  if (before) go(before);
}

/** Shows the newest so many seconds. */
export function showLast(last) {
  zooms.length = 0;
  go({ last, start: null, end: null });
}
