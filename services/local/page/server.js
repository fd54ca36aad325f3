// Requests to the server that this page came from: a few at a time, the rest wait.

const AT_ONCE_MAX = 4;
const TIMEOUT_MS = 15000;

let running = 0;
const waiting = [];
// How far the server's clock is ahead of ours, in milliseconds.
let ahead_ms = 0;

/** Answers the body of `GET path?params` as text. Throws an `Error` with one line that can be shown. */
export async function ask(path, params = {}, { signal } = {}) {
  await turn(signal);
  try {
    const signals = [AbortSignal.timeout(TIMEOUT_MS)];
    if (signal) signals.push(signal);
    const response = await fetch(link(path, params), { signal: AbortSignal.any(signals) });
    const text = await response.text();
    if (!response.ok) throw new Error(reason(response.status, text));
    return text;
  } catch (error) {
    if (error.name === "TimeoutError") throw new Error(`no answer within ${TIMEOUT_MS / 1000} s`);
    if (error instanceof TypeError) throw new Error("the server cannot be reached");
    throw error;
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/** The same as an object. */
export async function askJson(path, params, options) {
  return JSON.parse(await ask(path, params, options));
}

/** The address of `path` with those parameters that have a value. */
export function link(path, params) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.append(key, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** Sets our clock by the server's, in milliseconds since 1970. */
export function setClock(now_ms) {
  ahead_ms = now_ms - Date.now();
}

/** The server's time, in whole seconds since 1970. */
export function now() {
  return Math.floor((Date.now() + ahead_ms) / 1000);
}

function turn(signal) {
  if (running < AT_ONCE_MAX) {
    running += 1;
    return Promise.resolve();
  }
  return new Promise((resolve, reject) => {
    const start = () => {
      running += 1;
      resolve();
    };
    waiting.push(start);
    signal?.addEventListener("abort", () => {
      const at = waiting.indexOf(start);
      if (at < 0) return;
      waiting.splice(at, 1);
      reject(signal.reason);
    });
  });
}

function reason(status, text) {
  const line = text.split("\n", 1)[0].trim();
  return line && line.length < 300 && !line.startsWith("{") ? line : `the server answered ${status}`;
}
