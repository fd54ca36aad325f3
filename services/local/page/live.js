// What the server tells by itself: which metrics changed. And whether it still tells.

import { setClock } from "/assets/server.js";

// The server says something every 5 s at least.
const SILENT_MS_MAX = 12000;
const RETRY_MS = 4000;

const changeListeners = [];
const stateListeners = [];
let source = null;
let current = "connecting";
let heard = 0;
let retry = 0;

/** Calls `listener` with `{ all, metrics, overview }` whenever something changed. */
export function onChange(listener) {
  changeListeners.push(listener);
}

/** Calls `listener` with `connecting`, `live`, `stale`, `lost` or `paused`, now and whenever it changes. */
export function onState(listener) {
  stateListeners.push(listener);
  listener(current);
}

/** Whether the page shows what comes in. */
export function isPaused() {
  return current === "paused";
}

/** Stops or resumes listening. */
export function pause(paused) {
  if (!paused) {
    connect();
    return;
  }
  disconnect();
  become("paused");
}

/** Listens from now on. */
export function connect() {
  disconnect();
  become("connecting");
  source = new EventSource("/page/events");
  source.addEventListener("open", () => {
    hear();
    // Whatever happened since the last connection was missed.
    change({ all: true, metrics: [], overview: true });
  });
  source.addEventListener("changed", (event) => {
    hear();
    change(JSON.parse(event.data));
  });
  source.addEventListener("beat", (event) => {
    hear();
    setClock(JSON.parse(event.data).now_ms);
  });
  source.addEventListener("error", () => {
    become("lost");
    // After an answer that is no stream the browser does not try again by itself.
    if (source?.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
  });
}

// A browser has few connections for a server, and all tabs share them: one that is not seen gives its back.
document.addEventListener("visibilitychange", () => {
  if (current === "paused") return;
  if (document.hidden) disconnect();
  else connect();
});

setInterval(() => {
  if (current === "live" && !document.hidden && Date.now() - heard > SILENT_MS_MAX) become("stale");
}, 1000);

function disconnect() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function hear() {
  heard = Date.now();
  become("live");
}

function become(next) {
  if (next === current) return;
  current = next;
  for (const listener of stateListeners) listener(next);
}

function change(what) {
  for (const listener of changeListeners) listener(what);
}
