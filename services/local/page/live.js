// What the server tells by itself: which metrics changed. And whether it still tells.
//
// A browser has six connections for a server, and all its windows share them; a stream takes one for good.
// So one window that can be seen listens for all of them, by a lock of the browser, and passes on what it
// hears. Browsers have such locks on this machine and over TLS; elsewhere each window listens for itself.

import { setClock } from "/assets/server.js";

// The server says something every 5 s at least.
const SILENT_MS_MAX = 12000;
const RETRY_MS = 4000;
const SHARED = "zibrato-events";

const changeListeners = [];
const stateListeners = [];
const windows = navigator.locks ? new BroadcastChannel(SHARED) : null;
let source = null;
// Gives the lock back, or stops waiting for it.
let leave = null;
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

/** Listens from now on, while the page can be seen. */
export function connect() {
  disconnect();
  become("connecting");
  if (!document.hidden) join();
}

/** Listens if no other window does; else waits for that window to go, and hears what it passes on. */
function join() {
  heard = Date.now();
  if (!windows) {
    listen();
    return;
  }
  const waiting = new AbortController();
  leave = () => waiting.abort();
  const lead = () =>
    new Promise((release) => {
      if (waiting.signal.aborted) release();
      else {
        leave = release;
        listen();
      }
    });
  navigator.locks.request(SHARED, { signal: waiting.signal }, lead).catch(() => {});
  windows.postMessage(["join"]);
}

function listen() {
  source = new EventSource("/page/events");
  source.addEventListener("open", () => pass("open"));
  source.addEventListener("changed", (event) => pass("changed", JSON.parse(event.data)));
  source.addEventListener("beat", (event) => pass("beat", JSON.parse(event.data)));
  source.addEventListener("error", () => {
    pass("error");
    // After an answer that is no stream the browser does not try again by itself.
    if (source?.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
  });
}

function pass(what, data) {
  hear(what, data);
  windows?.postMessage([what, data]);
}

windows?.addEventListener("message", ({ data: [what, data] }) => {
  if (what !== "join") {
    if (!source && leave) hear(what, data);
  } else if (source?.readyState === EventSource.OPEN) {
    windows.postMessage(["open"]);
  }
});

function hear(what, data) {
  if (what === "error") {
    become("lost");
    return;
  }
  heard = Date.now();
  become("live");
  if (what === "beat") setClock(data.now_ms);
  if (what === "changed") change(data);
  // Whatever happened before was missed.
  if (what === "open") change({ all: true, metrics: [], overview: true });
}

document.addEventListener("visibilitychange", () => {
  if (current === "paused") return;
  if (document.hidden) disconnect();
  else connect();
});

// A connection that broke without a word, as on a laptop that slept, is not noticed by the browser.
setInterval(() => {
  if (!leave && !source) return;
  if (Date.now() - heard <= SILENT_MS_MAX) return;
  disconnect();
  if (current === "live") become("stale");
  join();
}, 1000);

function disconnect() {
  clearTimeout(retry);
  source?.close();
  leave?.();
  source = leave = null;
}

function become(next) {
  if (next === current) return;
  current = next;
  for (const listener of stateListeners) listener(next);
}

function change(what) {
  for (const listener of changeListeners) listener(what);
}
