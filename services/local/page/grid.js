// All metrics as cards with live charts. Only cards that can be seen are drawn, so that a thousand of them
// cost no more than a screen full.

import { address, isPast, pace_ms, slide_ms, state, zoom } from "/assets/state.js";
import { askJson, now } from "/assets/server.js";
import { draggable } from "/assets/drag.js";
import { draw, fail, readings } from "/assets/picture.js";
import { isPaused } from "/assets/live.js";
import { count, element, span } from "/assets/show.js";

const PAGE_LENGTH = 100;
// How often the list itself is looked at again when metrics change that are not in it; a long list that
// is not shown to its end knows few of them.
const LIST_EVERY_MS = 1000;
const LONG_LIST_EVERY_MS = 10000;
// A metric that has said nothing for so long is called old.
const OLD_S_MIN = 90;

const root = document.getElementById("metrics");
const cards = new Map();
const seen = new Set();
let list = null;
let reading = null;
let listed = { found: 0, total: 0, shown: 0, at: 0 };
let shownFor = "";
let later = 0;
let relist = 0;
let isNearEnd = false;

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target.card);
      else seen.delete(target.card);
    }
    redraw();
  },
  { rootMargin: "160px 0px" },
);

/** Shows the metrics that the state asks for. `filled` gets each answer, for the filters. */
export async function show(filled) {
  const wanted = filters();
  const key = JSON.stringify(wanted);
  if (!list) build();
  if (key !== shownFor) {
    shownFor = key;
    await load({ filled });
  }
  // What a card leads to keeps the range and the filters.
  for (const card of cards.values()) card.link.href = hrefOf(card);
  invalidate();
}

/** Draws again what can be seen. */
export function invalidate() {
  for (const card of cards.values()) card.isDirty = true;
  redraw(true);
}

/** Draws what can be seen and has changed. */
export function changed({ all, metrics }) {
  let isUnknown = all;
  for (const id of metrics) {
    const card = cards.get(id);
    if (card) {
      card.isDirty = true;
      card.newest = now();
    } else isUnknown = true;
  }
  if (all) for (const card of cards.values()) card.isDirty = true;
  if (isUnknown && list && !relist) {
    const every_ms = listed.shown < listed.found ? LONG_LIST_EVERY_MS : LIST_EVERY_MS;
    relist = setTimeout(refreshList, Math.max(0, listed.at + every_ms - Date.now()));
  }
  redraw();
}

/** Called every now and then: a chart of the newest seconds moves on even if nothing comes. */
export function tick() {
  if (isPaused()) return;
  const old_ms = slide_ms();
  for (const card of seen) {
    if (Date.now() - card.drawn_at > old_ms) card.isDirty = true;
    sayAge(card);
  }
  redraw();
}

function build() {
  list = element("div", { className: "cards" });
  const more = element("button", { type: "button", id: "more", textContent: "Show more", hidden: true });
  more.addEventListener("click", loadMore);
  root.replaceChildren(
    element(
      "div",
      { className: "head" },
      element("h1", { id: "metrics-title", textContent: "Metrics" }),
      element("p", { className: "count", id: "count", role: "status" }),
    ),
    list,
    element("p", { className: "more" }, more),
  );
  // The next page comes before its end is reached.
  const near = new IntersectionObserver(
    (entries) => {
      isNearEnd = entries.at(-1).isIntersecting;
      if (isNearEnd) loadMore();
    },
    { rootMargin: "600px 0px" },
  );
  near.observe(more);
}

function filters() {
  const { q, level, kind, source } = state();
  return { q, level, kind, source };
}

/** Reads the list from `offset` on, up to `until` metrics of it, and shows it once all is there. */
async function load({ offset = 0, until = offset + PAGE_LENGTH, filled, quiet = false }) {
  reading?.abort();
  const { signal } = (reading = new AbortController());
  if (!quiet && offset === 0) root.setAttribute("aria-busy", "true");
  const rows = [];
  let found;
  try {
    do {
      found = await askJson("/page/metrics", { ...filters(), offset: offset + rows.length, length: PAGE_LENGTH }, { signal });
      rows.push(...found.metrics);
    } while (found.metrics.length > 0 && offset + rows.length < Math.min(until, found.found));
  } catch (error) {
    if (signal.aborted) return;
    shownFor = "";
    throw error;
  } finally {
    if (!signal.aborted) root.removeAttribute("aria-busy");
  }
  listed = { found: found.found, total: found.total, shown: offset + rows.length, at: Date.now() };
  filled?.(found);
  place(rows, offset);
  say(found);
}

async function loadMore() {
  if (listed.shown >= listed.found || root.hasAttribute("aria-busy")) return;
  root.setAttribute("aria-busy", "true");
  try {
    await load({ offset: listed.shown });
  } catch {
    // The state of the connection is shown at the top; scrolling on tries again.
    return;
  } finally {
    root.removeAttribute("aria-busy");
  }
  // The new cards may all lie above the end of the window.
  if (isNearEnd) requestAnimationFrame(() => isNearEnd && loadMore());
}

/** Reads the part that is shown again: metrics may have come. */
async function refreshList() {
  relist = 0;
  listed.at = Date.now();
  try {
    const { found, total } = await askJson("/page/metrics", { ...filters(), length: 1 });
    if (found === listed.found && total === listed.total) return;
    await load({ until: Math.max(listed.shown, PAGE_LENGTH), quiet: true });
  } catch {
    // The state of the connection is shown at the top.
  }
}

/** Puts a part of the list at its place. Cards that are there stay as they are. */
function place(rows, offset) {
  const wanted = rows.map((row) => {
    const card = cards.get(row.id) ?? create(row);
    update(card, row);
    return card;
  });
  let at = list.children[offset] ?? null;
  for (const { element: item } of wanted) {
    if (item === at) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
  // What stands behind the last page is no longer in the list.
  while (list.children.length > listed.shown && listed.shown >= offset) {
    const item = list.lastElementChild;
    watcher.unobserve(item);
    seen.delete(item.card);
    cards.delete(item.card.id);
    item.remove();
  }
}

function create(row) {
  const link = element("a", { "data-go": "" });
  const facts = element("p", { className: "facts" });
  const host = element("div", { className: "chart" });
  const values = element("dl", { className: "readings" });
  const item = element(
    "article",
    { className: "panel card" },
    element("h2", { title: row.name }, link),
    facts,
    host,
    values,
  );
  const card = { id: row.id, name: row.name, element: item, link, facts, host, values, isDirty: true, drawn_at: 0 };
  item.card = card;
  draggable(host, { zoomed: zoom, picked: () => link.click() });
  cards.set(row.id, card);
  watcher.observe(item);
  return card;
}

function hrefOf(card) {
  return address({ view: "metric", metric: card.name });
}

function update(card, row) {
  card.newest = row.newest;
  card.link.textContent = row.display_name || row.name;
  card.link.href = hrefOf(card);
  card.age = element("span", { className: "old" });
  card.facts.replaceChildren(
    element("span", { className: "kind", "data-kind": row.kind }, row.kind),
    ...row.levels.map((level) => element("span", { className: "level" }, element("span", { className: "unseen" }, "level "), level)),
    row.sources === 1 ? "" : element("span", {}, `${count(row.sources)} sources`),
    card.age,
  );
  sayAge(card);
}

function sayAge(card) {
  const age_s = card.newest === null ? null : now() - card.newest;
  const isOld = age_s !== null && age_s > Math.max(OLD_S_MIN, 3 * (card.interval ?? 0));
  card.age.textContent = age_s === null ? "never measured" : isOld ? `last ${span(age_s)} ago` : "";
}

function redraw(isAtOnce = false) {
  if (root.hidden || document.hidden) return;
  const isFinal = isPaused() || isPast(now());
  const least_ms = isAtOnce ? 0 : pace_ms();
  let wait_ms = Infinity;
  for (const card of seen) {
    const isShown = card.drawn_for === location.search;
    if (!card.isDirty || card.isDrawing || (isShown && isFinal && !isAtOnce)) continue;
    const left_ms = card.drawn_at + least_ms - Date.now();
    if (left_ms <= 0) drawCard(card);
    else wait_ms = Math.min(wait_ms, left_ms);
  }
  clearTimeout(later);
  if (wait_ms < Infinity) later = setTimeout(redraw, wait_ms);
}

async function drawCard(card) {
  const asked = location.search;
  card.isDirty = false;
  card.isDrawing = true;
  card.drawn_at = Date.now();
  try {
    const chart = await draw(card.host, { metric: card.name, source: state().source });
    card.interval = chart.interval;
    card.drawn_for = asked;
    readings(card.values, chart.readings);
  } catch (error) {
    fail(card.host, error);
  }
  card.isDrawing = false;
  // The range may have changed meanwhile.
  if (asked !== location.search) {
    card.isDirty = true;
    redraw(true);
  }
}

function say({ found, total }) {
  const shown = found === total ? count(total) : `${count(found)} of ${count(total)}`;
  document.getElementById("count").textContent = found === 0 ? "" : shown;
  document.getElementById("more").hidden = listed.shown >= found;
  root.querySelector(".empty")?.remove();
  if (found > 0) return;
  root.append(total === 0 ? welcome() : nothingFits());
}

function nothingFits() {
  return element(
    "div",
    { className: "panel empty" },
    element("h2", { textContent: "No metric fits these filters" }),
    element("p", { textContent: "Search, level, kind and source must all fit. Clear them to see every metric." }),
  );
}

function welcome() {
  const code = (text) => element("pre", { tabIndex: 0 }, element("code", { textContent: text }));
  return element(
    "div",
    { className: "panel empty" },
    element("h2", { textContent: "Nothing has been measured yet" }),
    element("p", { textContent: "Charts appear here by themselves as soon as the first metric arrives." }),
    element("h3", { textContent: "See it move" }),
    code("zibrato up --demo"),
    element("h3", { textContent: "Or measure your own program" }),
    code(
      'static REQUESTS: Counter = Counter::new("requests", Level::INFO);\n' +
        "let client = Client::builder().build()?;\n" +
        "REQUESTS.increment();",
    ),
    element("h3", { textContent: "Or send what you have by hand" }),
    code(`curl ${location.origin}/v1/metrics -H 'Content-Type: application/json' \\\n  -d '{"gauges":[{"name":"room.temperature","value":21.5}]}'`),
  );
}
