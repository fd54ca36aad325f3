// Range and filters: controls that show the state and change it.

import { canUnzoom, go, range, showLast, state, unzoom, zoom } from "/assets/state.js";
import { now } from "/assets/server.js";
import { date, element, span } from "/assets/show.js";

const TYPING_MS = 250;
const RANGE_S_MIN = 10;
const RANGE_S_MAX = 400 * 86400;
const TITLES = { earlier: "Earlier", later: "Later", in: "Zoom in", out: "Zoom out" };

const tools = document.getElementById("tools");
const form = document.getElementById("filters");
const clear = document.getElementById("clear");
const radios = [...tools.querySelectorAll("input[name=last]")];
let typing = 0;

/** Wires the controls. */
export function start() {
  for (const radio of radios) radio.addEventListener("change", () => showLast(Number(radio.value)));
  for (const button of tools.querySelectorAll("[data-move]")) {
    button.title = TITLES[button.dataset.move] ?? "";
    button.addEventListener("click", () => move(button.dataset.move));
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(apply, TYPING_MS);
  });
  clear.addEventListener("click", () => {
    go({ q: "", level: "", kind: "", source: "" });
    form.elements.q.focus();
  });
}

/** Shows the state in the controls. */
export function show(given) {
  tools.hidden = given.view === "overview";
  tools.dataset.view = given.view;
  const isOne = given.view === "metric";
  for (const name of ["q", "level", "kind"]) form.elements[name].closest("label").hidden = isOne;
  for (const name of ["q", "level", "kind", "source"]) {
    const field = form.elements[name];
    if (field !== document.activeElement || given[name] === "") set(field, given[name]);
  }
  clear.hidden = !(given.q || given.level || given.kind || given.source) || isOne;
  for (const radio of radios) radio.checked = Number(radio.value) === given.last;
  const back = tools.querySelector("[data-move=back]");
  // A button that goes away must not take the focus with it.
  if (back === document.activeElement && !canUnzoom()) tools.querySelector("[data-move=out]").focus();
  back.hidden = !canUnzoom();
  tools.querySelector("[data-move=later]").disabled = !given.start;
  const text = document.getElementById("range-text");
  if (given.start) text.textContent = `${date(given.start)} to ${date(given.end)} (${span(given.end - given.start)})`;
  else text.textContent = radios.some((radio) => radio.checked) ? "" : `the last ${span(given.last)}`;
}

/** Offers the levels and sources that there are. */
export function offer({ levels, sources }) {
  const { level } = state();
  const names = level && !levels.includes(level) ? [...levels, level] : levels;
  const select = form.elements.level;
  const shown = [...select.options].slice(1).map((option) => option.value);
  if (shown.join() !== names.join()) {
    select.replaceChildren(select.options[0], ...names.map((name) => element("option", { value: name }, name)));
    select.value = level;
  }
  document.getElementById("sources").replaceChildren(...sources.map((name) => element("option", { value: name })));
}

function apply() {
  const { q, level, kind, source } = form.elements;
  go({ q: q.value.trim(), level: level.value, kind: kind.value, source: source.value.trim() }, { replace: true });
}

function set(field, value) {
  if (field.tagName === "SELECT" && value && ![...field.options].some((option) => option.value === value)) {
    field.append(element("option", { value }, value));
  }
  field.value = value;
}

function move(how) {
  if (how === "back") {
    unzoom();
    return;
  }
  const { start, end } = range(now());
  const length = end - start;
  if (how === "earlier") zoomTo(start - length / 2, end - length / 2);
  if (how === "later") zoomTo(start + length / 2, end + length / 2);
  if (how === "in") zoomAround(length / 2);
  if (how === "out") zoomAround(length * 2);
}

/** Zooms around the chosen moment if one is shown, else around the middle. */
function zoomAround(wanted) {
  const length = Math.min(RANGE_S_MAX, Math.max(RANGE_S_MIN, wanted));
  const { start, end } = range(now());
  const { at } = state();
  const middle = at && at >= start && at <= end ? at : (start + end) / 2;
  zoomTo(middle - length / 2, middle + length / 2);
}

function zoomTo(start, end) {
  const newest = now();
  // What lies ahead is empty; the newest is the end.
  if (end >= newest) {
    const length = Math.round(end - start);
    const radio = radios.find(({ value }) => Number(value) === length);
    if (radio) showLast(length);
    else zoom(Math.max(1, newest - length), newest);
    return;
  }
  zoom(Math.max(1, start), end);
}
