// How the way from the programs to here is: publishers, brokers, workers, this store; loss and spool.

import { askJson } from "/assets/server.js";
import { isPaused } from "/assets/live.js";
import { count, date, element, quantity, span } from "/assets/show.js";

const root = document.getElementById("overview");
// The level at which brokers publish their own metrics.
const OWN_LEVEL = "zibrato";
// Ages grow and publishers fall silent though nobody says anything.
const READ_EVERY_MS = 5000;
const VANISHED = "Vanished: silent without an end frame, as a killed program is. What it had sent is here; what it measured after its last frame, at most a window, is not.";
let read = 0;
let isReading = false;
let isAgain = false;

/** Shows the pipeline as it is now. */
export async function show() {
  // One request at a time; what changes meanwhile is read after it.
  if (isReading) {
    isAgain = true;
    return;
  }
  isReading = true;
  read = Date.now();
  try {
    render(await askJson("/page/overview"));
  } finally {
    isReading = false;
  }
  if (isAgain) {
    isAgain = false;
    await show();
  }
}

/** Shows it again if it changed, or metrics did. */
export function changed({ all, overview }) {
  if (!root.hidden && !document.hidden && (all || overview)) show().catch(() => {});
}

/** Called every now and then: shows it again though nothing was said. */
export function tick() {
  if (isPaused() || root.hidden || document.hidden || Date.now() - read < READ_EVERY_MS) return;
  show().catch(() => {});
}

function render(found) {
  const { local, summary, services, stages, losses } = found;
  const brokers = services.filter(({ report }) => report?.service === "broker");
  const workers = services.filter(({ report }) => report?.service === "worker");
  const missing = services.filter(({ error }) => error);
  const scrolled = scrolledTo();
  root.replaceChildren(
    element("div", { className: "head" }, element("h1", { id: "overview-title", textContent: "Overview" }), element("p", { className: "count", textContent: "from the programs that measure to this store" })),
    tiles(found),
    ...(missing.length ? [notReached(missing)] : []),
    ...(losses.length ? [lost(losses)] : []),
    ...(local.kind_clashes.length ? [clashes(local.kind_clashes)] : []),
    publishers(found.publishers, found.publishers_total),
    table("Brokers", "no broker answers", ["Condition", "Publishers at", "Workers at", "Messages in", "Forwarded", "Without subscriber", "Refused", "Kept", "Subscribed levels"], brokers.map(broker)),
    table("Workers", "no worker answers", ["Condition", "Backend", "Levels", "Brokers", "Series", "Last flush", "Last delivery", "Spool", "Lost"], workers.map(worker)),
    accounts(stages),
  );
  scrolled();
}

function tiles({ local, summary, services, stages, losses }) {
  const { spool, publishers_alive, publishers_total, publishers_vanished } = summary;
  const wrong = stages.filter(({ adds_up }) => !adds_up);
  const isSeen = services.some(({ report }) => report);
  return element(
    "div",
    { className: "tiles" },
    tile("Publishers", isSeen ? `${count(publishers_alive)} alive` : "unknown", isSeen ? `${count(publishers_total)} known${publishers_vanished ? `, ${count(publishers_vanished)} vanished` : ""}` : "no worker or broker answers", isSeen ? (publishers_alive > 0 ? "good" : "warn") : ""),
    tile("Loss", isSeen ? lossOf(losses) : "unknown", losses.map(lossText).join("; ") || "gaps, drops and refusals on the way", isSeen ? (losses.length === 0 ? "good" : "bad") : ""),
    tile("Spool", isSeen ? `${count(spool.batches)} batches` : "unknown", isSeen ? `${quantity(spool.bytes, "B")}${spool.oldest_ms === null ? "" : `, the oldest ${span(spool.oldest_ms / 1000)}`}` : "no worker or broker answers", isSeen ? (spool.oldest_ms > 120000 ? "bad" : spool.batches > 5 ? "warn" : "good") : ""),
    tile("Law", wrong.length === 0 ? "adds up" : "does not add up", wrong.map((each) => `${stageName(each)}, ${each.unit}`).join("; ") || `in ${stages.length === 1 ? "the one account" : `all ${count(stages.length)} accounts`}: accepted = delivered + held + dropped`, wrong.length === 0 ? "good" : "bad"),
    tile("Stored here", `${count(local.account.accepted)} points`, `${count(local.metrics)} metrics in ${quantity(local.db_bytes, "B")}${local.disk_free_bytes === null ? "" : `, ${quantity(local.disk_free_bytes, "B")} free`}${local.newest_s ? `; newest ${date(local.newest_s)}` : ""}`, "good"),
  );
}

function tile(title, value, detail, state) {
  return element(
    "section",
    { className: "panel tile", "data-state": state },
    element("h2", { textContent: title }),
    element("p", { className: "value", textContent: value }),
    element("p", { className: "detail", textContent: detail }),
  );
}

function notReached(missing) {
  return table(
    "Not reached",
    "",
    ["Address", "Why", "Asked"],
    missing.map(({ address, error, age_ms }) => [state("bad", address), breaks(error), `${span(age_ms / 1000)} ago`]),
  );
}

function publishers(list, total) {
  const title = total > list.length ? `Publishers (${count(list.length)} of ${count(total)})` : "Publishers";
  const rows = list.map((each) => {
    const condition = each.ended ? ["", "ended"] : each.vanished ? ["", "vanished"] : each.is_silent ? ["warn", "silent"] : ["good", "alive"];
    return [
      state(...condition),
      breaks(each.program || (each.levels.join() === OWN_LEVEL ? "a broker, of itself" : "unknown program")),
      each.host ? `${each.host}${each.pid ? `, ${each.pid}` : ""}` : "–",
      each.version || "–",
      each.levels.join(", "),
      number(each.series),
      `${span(each.silent_ms / 1000)} ago`,
      each.age_ms ? span(each.ran_ms / 1000) : "–",
      each.clock_skew_ms === null ? "–" : `${count(each.clock_skew_ms)} ms`,
      number(each.gaps),
      onlyReasons(each.dropped),
      number(each.spilled),
      element("span", { className: "mono", title: each.id }, each.id.slice(0, 8)),
    ];
  });
  return table(title, "no program has published yet", ["State", "Program", "Host, pid", "Version", "Levels", "Series", "Last frame", "Run time", "Clock ahead", "Open gaps", "Dropped", "Spilled", "Id"], rows, list.some(({ vanished }) => vanished) ? VANISHED : "");
}

function broker({ report, age_ms }) {
  const [account = empty()] = report.accounts;
  return [
    condition(report, age_ms),
    report.publishers_endpoint,
    report.workers_endpoint,
    number(account.offered),
    number(account.delivered),
    withReasons(sum(account.dropped), account.dropped),
    withReasons(sum(account.refused), account.refused),
    `${quantity(report.kept_bytes, "B")} of ${quantity(report.kept_bytes_max, "B")}`,
    breaks(report.subscribed_levels.join(", ") || "none"),
  ];
}

function worker({ report, age_ms }) {
  return [
    condition(report, age_ms),
    breaks(`${report.backend}, ${report.target}`),
    breaks(report.levels.join(", ")),
    element("span", {}, report.brokers.map(({ endpoint, connected }) => state(connected ? "good" : "bad", `${endpoint}${connected ? "" : " not connected"}`))),
    number(report.series),
    report.flushed_ms === null ? "none yet" : `${span(report.flushed_ms / 1000)} ago`,
    report.delivered_ms === null ? "none yet" : `${span(report.delivered_ms / 1000)} ago`,
    `${count(report.spool.batches)} batches, ${quantity(report.spool.bytes, "B")}`,
    onlyReasons(report.lost),
  ];
}

// How a service is, in one line of its own.
function condition({ process, backend_error }, age_ms) {
  const trouble = backend_error ?? process.degraded;
  if (trouble) return element("td", { className: "breaks" }, state("bad", trouble));
  return age_ms > 5000 ? state("warn", `silent for ${span(age_ms / 1000)}`) : state("good", "well");
}

/** Losses of different units do not add up to anything, so each is told by itself. */
function lost(losses) {
  return table(
    "Lost",
    "",
    ["Stage", "Reason", "Amount", "Unit"],
    losses.map(({ stage, reason, amount, unit }) => [stage, breaks(words(reason)), number(amount), unit]),
  );
}

/** Names under which programs record different kinds; a store without kinds has them as one metric. */
function clashes(list) {
  return table(
    "Names of two kinds",
    "",
    ["Metric", "Shown as", "Also sent as"],
    list.map(({ metric, is, sent }) => [breaks(metric), is, sent]),
    "Programs record different kinds under one name. Both are stored as one metric; rename one of them.",
  );
}

function lossOf(losses) {
  if (losses.length === 0) return "nothing lost";
  return losses.length === 1 ? `${count(losses[0].amount)} ${losses[0].unit}` : `${count(losses.length)} kinds`;
}

function lossText({ stage, reason, amount, unit }) {
  return `${stage}: ${count(amount)} ${unit}, ${words(reason)}`;
}

function accounts(stages) {
  const rows = stages.map((each) => [
    stageName(each),
    each.unit,
    law(each),
    number(each.offered),
    number(each.accepted),
    number(each.merged),
    withReasons(sum(each.refused), each.refused),
    number(each.delivered),
    number(each.held),
    withReasons(sum(each.dropped), each.dropped),
  ]);
  const law_text = "At each stage, in its own unit: offered = accepted + merged + refused, and accepted = delivered + held + dropped.";
  return table("Accounts", "", ["Stage", "Unit", "Law", "Offered", "Accepted", "Merged", "Refused", "Delivered", "Held", "Dropped"], rows, law_text);
}

// What is missing is said, so that it can be looked for.
function law({ adds_up, offered, accepted, merged, refused, delivered, held, dropped }) {
  if (adds_up) return state("good", "adds up");
  const before = offered - accepted - merged - sum(refused);
  const after = accepted - delivered - held - sum(dropped);
  return state("bad", `off by ${count(before === 0 ? after : before)}`);
}

function stageName({ service, stage }) {
  return stage ? `${service}, ${stage}` : service;
}

function table(title, none, columns, rows, hint = "") {
  const id = `table-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const isNumber = columns.map((_, at) => rows.some((row) => row[at]?.className === "number"));
  const cells = (row) => row.map((cell) => (cell?.tagName === "TD" ? cell : element("td", {}, cell)));
  const body = rows.length
    ? element(
        "div",
        { className: "scroll", tabIndex: 0, role: "region", "aria-label": `Table: ${title}` },
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, columns.map((column, at) => element("th", { scope: "col", className: isNumber[at] ? "number" : "" }, column)))),
          element("tbody", {}, rows.map((row) => element("tr", {}, cells(row)))),
        ),
      )
    : element("p", { className: "hint", textContent: none });
  return element("section", { className: "panel block", "aria-labelledby": id }, element("header", {}, element("h2", { id, textContent: title })), hint ? element("p", { className: "hint", textContent: hint }) : null, body);
}

function state(condition, text) {
  return element("span", { className: "state", "data-state": condition }, text);
}

function number(value) {
  return element("td", { className: "number" }, count(value));
}

function breaks(text) {
  return element("td", { className: "breaks" }, text);
}

function withReasons(total, byReason) {
  const text = reasons(byReason);
  return text ? element("td", { className: "breaks" }, `${count(total)}: ${text}`) : number(total);
}

/** Amounts by reason that are of different units, so that their sum says nothing. */
function onlyReasons(byReason) {
  const text = reasons(byReason);
  return text ? breaks(text) : number(0);
}

function reasons(byReason) {
  return Object.entries(byReason ?? {})
    .filter(([, value]) => value > 0)
    .map(([reason, value]) => `${words(reason)} ${count(value)}`)
    .join(", ");
}

function words(reason) {
  return reason.replaceAll("_", " ");
}

function sum(byReason) {
  return Object.values(byReason ?? {}).reduce((total, value) => total + value, 0);
}

function empty() {
  return { offered: 0, accepted: 0, refused: {}, delivered: 0, held: 0, dropped: {} };
}

/** Remembers how far the tables are scrolled and who has the focus, to be restored after they are rebuilt. */
function scrolledTo() {
  const places = new Map([...root.querySelectorAll(".scroll")].map((part) => [part.getAttribute("aria-label"), [part.scrollLeft, part.scrollTop]]));
  const focused = root.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  return () => {
    for (const part of root.querySelectorAll(".scroll")) {
      const id = part.getAttribute("aria-label");
      const [left, top] = places.get(id) ?? [0, 0];
      part.scrollLeft = left;
      part.scrollTop = top;
      if (id === focused) part.focus({ preventScroll: true });
    }
  };
}
