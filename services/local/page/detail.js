// One metric: a large chart, its latency over time, a moment's distribution, annotations and numbers.

import { address, go, isPast, pace_ms, slide_ms, state, zoom } from "/assets/state.js";
import { askJson, link, now } from "/assets/server.js";
import { draggable } from "/assets/drag.js";
import { draw, fail, readings } from "/assets/picture.js";
import { isPaused } from "/assets/live.js";
import { moment } from "/assets/moment.js";
import { count, date, element, quantity, span } from "/assets/show.js";

const ROWS_FEW = 100;
// More are in the files; a table of them would keep the browser busy with nothing else.
const ROWS_MANY = 2000;
const STATISTICS = ["p50", "p95", "p99", "max", "mean"];
const COLUMNS = {
  counter: [["sum", "Sum", "plain"], ["rate", "Rate", "rate"], ["count", "Points", "plain"]],
  gauge: [["last", "Last"], ["mean", "Mean"], ["min", "Min"], ["max", "Max"], ["count", "Points", "plain"]],
  timer: [
    ["count", "Records", "plain"], ["rate", "Records/s", "events"], ["mean", "Mean"], ["min", "Min"],
    ["p50", "p50"], ["p95", "p95"], ["p99", "p99"], ["max", "Max"],
  ],
};

const root = document.getElementById("metric");
let shown = null;
// Whether the page says that there is no such metric: it may come.
let isMissing = false;
let later = 0;

/** Shows the metric that the state names. */
export async function show() {
  const { metric: name } = state();
  if (shown?.name !== name) {
    shown = null;
    const isAgain = isMissing && root.firstElementChild?.textContent === name;
    if (!isAgain) root.replaceChildren(element("h1", { id: "metric-title", textContent: name }));
    const found = await askJson("/page/metrics", { metric: name, length: 1 });
    if (state().metric !== name || shown?.name === name) return;
    isMissing = found.metrics.length === 0;
    if (isMissing) {
      if (!isAgain) root.append(missing());
      return;
    }
    shown = build(found.metrics[0]);
  }
  shown.controls();
  await refresh(true);
}

function missing() {
  return element(
    "div",
    { className: "empty panel" },
    element("p", { textContent: "There is no metric of this name. It is shown here as soon as it is measured." }),
    element("a", { href: address({ metric: "", view: "metrics" }), "data-go": "" }, "Show all metrics"),
  );
}

/** Draws again if this metric changed, or looks whether it has come. */
export function changed({ all, metrics }) {
  if (root.hidden) return;
  if (isMissing) show().catch(() => {});
  if (shown && (all || metrics.includes(shown.id))) {
    shown.isDirty = true;
    refresh();
  }
}

/** Called every now and then: a chart of the newest seconds moves on even if nothing comes. */
export function tick() {
  if (!shown || root.hidden) return;
  if (isPaused()) return;
  if (Date.now() - shown.drawn_at > slide_ms()) shown.isDirty = true;
  refresh();
}

/** Draws again at once, in a new size or new colours. */
export function invalidate() {
  if (shown && !root.hidden) refresh(true);
}

async function refresh(isAtOnce = false) {
  if (document.hidden || !shown || root.hidden) return;
  clearTimeout(later);
  if (!isAtOnce) {
    if (!shown.isDirty || shown.drawing || isPaused() || isPast(now())) return;
    const left_ms = shown.drawn_at + pace_ms() - Date.now();
    if (left_ms > 0) {
      later = setTimeout(refresh, left_ms);
      return;
    }
  }
  const drawn = shown;
  // What was asked for before is no longer wanted.
  drawn.drawing?.abort();
  const drawing = new AbortController();
  Object.assign(drawn, { drawing, isDirty: false, drawn_at: Date.now() });
  await drawn.draw(drawing.signal);
  if (drawn.drawing !== drawing) return;
  drawn.drawing = null;
  if (drawn.isDirty) refresh();
}

function clash({ kind, also_sent_as }) {
  return `Programs send this name as a ${kind} and as a ${also_sent_as}. Both are stored as one metric and shown as a ${kind}; rename one of them.`;
}

function build(row) {
  const main = element("div", { className: "chart big" });
  const heat = element("div", { className: "chart middle" });
  const hosts = row.kind === "timer" ? [main, heat] : [main];
  const picked = moment(row, hosts);
  for (const host of hosts) draggable(host, { zoomed: zoom, picked: picked.pick });

  const values = element("dl", { className: "wide-readings" });
  const by = toggle("By source", "by", "source");
  const scale = toggle(row.kind === "timer" ? "Linear scale" : "Log scale", "scale", row.kind === "timer" ? "linear" : "log");
  const of = element(
    "select",
    {},
    STATISTICS.map((name) => element("option", { value: name }, name)),
  );
  of.addEventListener("change", () => go({ of: of.value }, { replace: true }));
  const ofLabel = element("label", {}, "of each source: ", of);
  const note = element("p", { className: "hint", role: "status" });

  const marks = element("ol", { className: "marks" });
  const marksBlock = element(
    "section",
    { className: "panel block", "aria-labelledby": "marks-title", hidden: true },
    element("header", {}, element("h2", { id: "marks-title", textContent: "Annotations" }), element("p", { className: "hint" })),
    marks,
  );
  const table = numbers(row);
  const facts = element(
    "p",
    { className: "facts" },
    element("span", { className: "kind", "data-kind": row.kind }, row.kind),
    ...row.levels.map((level) => element("span", { className: "level" }, element("span", { className: "unseen" }, "level "), level)),
    row.unit ? element("span", {}, `unit ${row.unit}`) : null,
    element("span", {}, row.sources === 1 ? "1 source" : `${count(row.sources)} sources`),
    row.display_name ? element("span", { className: "mono" }, row.name) : null,
  );
  const back = element("a", { href: "/", "data-go": "", className: "button" }, "← All");

  root.replaceChildren(
    element(
      "div",
      { className: "title" },
      back,
      element("h1", { id: "metric-title", textContent: row.display_name || row.name }),
      facts,
    ),
    ...(row.also_sent_as ? [element("p", { className: "hint", role: "note", textContent: clash(row) })] : []),
    ...(row.description ? [element("p", { className: "hint", textContent: row.description })] : []),
    element(
      "section",
      { className: "panel block", "aria-labelledby": "chart-title" },
      element("header", {}, element("h2", { id: "chart-title", textContent: title(row) }), by, ofLabel, scale),
      main,
      picked.track,
      note,
      values,
    ),
    ...(row.kind === "timer"
      ? [
          element(
            "section",
            { className: "panel block", "aria-labelledby": "heat-title" },
            element(
              "header",
              {},
              element("h2", { id: "heat-title", textContent: "Latency over time" }),
              element("p", { className: "hint", textContent: "the stronger the colour, the more records" }),
            ),
            heat,
          ),
        ]
      : []),
    picked.block,
    marksBlock,
    table.block,
  );

  /** Shows the state in the controls of the chart. */
  function controls() {
    const given = state();
    back.href = address({ metric: "", view: "metrics", by: "", of: "", scale: "", at: null });
    by.hidden = row.sources < 2;
    by.setAttribute("aria-pressed", String(given.by === "source"));
    scale.setAttribute("aria-pressed", String(given.scale !== ""));
    ofLabel.hidden = !(row.kind === "timer" && given.by === "source");
    of.value = STATISTICS.includes(given.of) ? given.of : "p99";
  }

  async function drawAll(signal) {
    const { source, by, of, scale } = state();
    const isTimer = row.kind === "timer";
    const one = async (host, params) => {
      try {
        await draw(host, { metric: row.name, source, ...params }, { signal });
      } catch (error) {
        if (signal.aborted) return;
        fail(host, error);
        tell(note, `This cannot be shown: ${error.message}.`);
      }
    };
    const before = main.chart;
    await Promise.all([
      one(main, { by, of: isTimer && by ? of || "p99" : "", scale, marks: "yes" }),
      isTimer ? one(heat, { view: "heat" }) : null,
    ]);
    // Without a new chart, numbers and moment would be those of another range.
    if (signal.aborted || main.chart === before) return;
    readings(values, main.chart.readings, { full: true });
    tell(note, main.chart.note);
    picked.place();
    try {
      await Promise.all([annotate(marksBlock, marks, main.chart, signal), table.fill(main.chart, signal)]);
    } catch (error) {
      if (!signal.aborted) tell(note, `The numbers cannot be shown: ${error.message}.`);
    }
  }

  return { name: row.name, id: row.id, controls, draw: drawAll, drawing: null, drawn_at: 0, isDirty: true };
}

function title({ kind, unit }) {
  if (kind === "counter") return unit ? `${unit} per second` : "Per second";
  if (kind === "timer") return "p50, p95, p99 and max";
  return "Mean, from lowest to highest";
}

/** Says something in a live region; what it says already is not said again. */
function tell(region, text) {
  if (region.textContent !== text) region.textContent = text;
}

function toggle(text, key, on) {
  const button = element("button", { type: "button", "aria-pressed": "false" }, text);
  button.addEventListener("click", () => go({ [key]: state()[key] ? "" : on }, { replace: true }));
  return button;
}

async function annotate(block, list, { start, end }, signal) {
  const { annotations, is_cut } = await askJson("/page/annotations", { start, end }, { signal });
  block.hidden = annotations.length === 0;
  block.querySelector(".hint").textContent = is_cut ? `The first ${count(annotations.length)} are shown; a shorter range shows others.` : "";
  list.replaceChildren(
    ...annotations.map(({ stream, title, source, description, start, end, links }, at) =>
      element(
        "li",
        {},
        element("span", { className: "flag" }, String(at + 1)),
        element("strong", {}, title),
        ` · ${stream}${source ? ` · ${source}` : ""} · ${date(start)}${end ? ` to ${date(end)}` : ""}`,
        description ? element("p", { className: "hint" }, description) : null,
        ...(links ?? []).filter(({ href }) => /^https?:\/\//i.test(href)).map(({ href, label }) =>
          element("p", {}, element("a", { href, rel: "noreferrer noopener" }, label || href)),
        ),
      ),
    ),
  );
}

/** The table of the numbers behind the chart, and their downloads. */
function numbers(row) {
  const columns = COLUMNS[row.kind];
  const head = element("tr");
  const body = element("tbody");
  const all = element("button", { type: "button", "aria-pressed": "false" }, "More rows");
  const csv = element("a", { className: "button", download: "" }, "CSV");
  const json = element("a", { className: "button", download: "" }, "JSON");
  const caption = element("p", { className: "hint", id: "numbers-hint" });
  let shown = null;
  let isAll = false;
  all.addEventListener("click", () => {
    isAll = !isAll;
    all.setAttribute("aria-pressed", String(isAll));
    if (shown) fill(shown).catch(() => {});
  });
  const block = element(
    "section",
    { className: "panel block", "aria-labelledby": "numbers-title" },
    element("header", {}, element("h2", { id: "numbers-title", textContent: "Numbers" }), all, csv, json),
    caption,
    element(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table of the numbers" },
      element("table", { "aria-describedby": "numbers-hint" }, element("thead", {}, head), body),
    ),
  );

  async function fill(chart, signal) {
    shown = chart;
    const { source, by } = state();
    const asked = { metric: row.name, source, by, start: chart.start, end: chart.end, step: chart.step };
    csv.href = link("/page/data", { ...asked, format: "csv" });
    json.href = link("/page/data", { ...asked, format: "json" });
    csv.download = `${row.name}.csv`;
    json.download = `${row.name}.json`;
    render(await askJson("/page/data", { ...asked, rows: isAll ? ROWS_MANY : ROWS_FEW }, { signal }));
  }

  function render(data) {
    const bySource = data.lines.some(({ source }) => source !== null);
    const titles = ["Time", ...(bySource ? ["Source"] : []), ...columns.map(([, title]) => title)];
    head.replaceChildren(
      ...titles.map((title, at) =>
        element("th", { scope: "col", className: at > (bySource ? 1 : 0) ? "number" : "" }, title),
      ),
    );
    const rows = data.lines.flatMap(({ source, steps }) => steps.map((step) => ({ source, ...step })));
    rows.sort((a, b) => b.time - a.time || (a.source ?? "").localeCompare(b.source ?? ""));
    all.hidden = data.rows <= ROWS_FEW;
    body.replaceChildren(
      ...rows.map((step) =>
        element(
          "tr",
          {},
          element("td", {}, date(step.time)),
          bySource ? element("td", {}, step.source) : null,
          ...columns.map(([key, , form]) => element("td", { className: "number" }, cell(step[key], form))),
        ),
      ),
    );
    const range = `${count(data.rows)} rows in steps of ${span(data.step)}, newest first`;
    caption.textContent = rows.length < data.rows ? `${range}; ${count(rows.length)} are shown, all are in the files` : range;
  }

  function cell(value, form) {
    if (form === "plain") return count(value);
    if (form === "events") return quantity(value, "", { perSecond: true });
    return quantity(value, row.unit, { perSecond: form === "rate" });
  }

  return { block, fill };
}
