// Ties the parts together: what the address says is shown, and what changes is shown again.

import * as detail from "/assets/detail.js";
import * as grid from "/assets/grid.js";
import * as overview from "/assets/overview.js";
import * as toolbar from "/assets/toolbar.js";
import { connect, isPaused, onChange, onState, pause } from "/assets/live.js";
import { address, state, watch } from "/assets/state.js";
import { colours } from "/assets/picture.js";
import { zoneName } from "/assets/show.js";

const TICK_MS = 1000;
const RESIZE_MS = 150;
const VIEWS = { metrics: "metrics", metric: "metric", overview: "overview" };
const STATES = {
  connecting: "Connecting",
  live: "Live",
  stale: "Stale: the server is silent",
  lost: "Disconnected, trying again",
  paused: "Paused",
};

const problem = document.getElementById("problem");
const pauseButton = document.getElementById("pause");
const themeButton = document.getElementById("theme");
let view = null;
let turn = 0;

async function show(given) {
  // What is said of a state that is no longer shown would be said of another one.
  const mine = (turn += 1);
  const isOther = given.view !== view;
  view = given.view;
  for (const id of Object.values(VIEWS)) document.getElementById(id).hidden = VIEWS[view] !== id;
  for (const anchor of document.querySelectorAll("nav a")) {
    anchor.href = address({ metric: "", view: anchor.dataset.view, by: "", of: "", scale: "", at: null });
    const isHere = anchor.dataset.view === (view === "metric" ? "metrics" : view);
    if (isHere) anchor.setAttribute("aria-current", view === "metric" ? "true" : "page");
    else anchor.removeAttribute("aria-current");
  }
  const title = { metrics: "Metrics", metric: given.metric, overview: "Overview" }[view];
  document.title = `${title} · Zibrato`;
  toolbar.show(given);
  if (isOther && view !== "metrics") scrollTo(0, 0);
  try {
    if (view === "metrics") await grid.show(toolbar.offer);
    if (view === "metric") await detail.show();
    if (view === "overview") await overview.show();
    if (mine === turn) problem.hidden = true;
  } catch (error) {
    if (mine !== turn) return;
    problem.textContent = `This cannot be shown: ${error.message}.`;
    problem.hidden = false;
  }
}

function redraw() {
  grid.invalidate();
  detail.invalidate();
}

function showTheme() {
  themeButton.setAttribute("aria-pressed", String(colours() === "dark"));
}

// Links within the page change the address without loading it again.
document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[data-go]");
  if (!anchor || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const before = view;
  history.pushState(null, "", anchor.href);
  dispatchEvent(new PopStateEvent("popstate"));
  if (before !== view) document.getElementById("main").focus({ preventScroll: true });
});

pauseButton.addEventListener("click", () => pause(!isPaused()));
themeButton.addEventListener("click", () => {
  const chosen = colours() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem("zibrato-theme", chosen);
  } catch {
    // Storage may be forbidden; the choice then ends with the page.
  }
  showTheme();
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  showTheme();
  redraw();
});

let resizing = 0;
let width = innerWidth;
addEventListener("resize", () => {
  // A phone's address bar changes the height all the time.
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(redraw, RESIZE_MS);
});

onState((now) => {
  document.getElementById("link").dataset.state = now;
  document.getElementById("link-text").textContent = STATES[now];
  pauseButton.setAttribute("aria-pressed", String(now === "paused"));
});
onChange((what) => {
  if (problem.hidden === false) show(state());
  grid.changed(what);
  detail.changed(what);
  overview.changed(what);
});
setInterval(() => {
  grid.tick();
  detail.tick();
  overview.tick();
}, TICK_MS);

document.getElementById("zone").textContent = zoneName();
showTheme();
toolbar.start();
watch(show);
show(state());
connect();
