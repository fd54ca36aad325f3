// Charts: pictures that the server draws, put into the page as parsed XML.

import { rangeParams, state } from "/assets/state.js";
import { ask, now } from "/assets/server.js";
import { element, zone } from "/assets/show.js";

/** Draws a chart into `host` and returns what its picture says of itself: where the plot lies in it, its
 * range and step, and its readings. The same is found at `host.chart`. */
export async function draw(host, params, { signal } = {}) {
  const given = state();
  const end = given.end ?? now();
  const start = given.start ?? end - given.last;
  const text = await ask(
    "/page/chart.svg",
    {
      ...(params.start ? {} : rangeParams(given)),
      ...params,
      width: Math.min(4000, Math.max(100, Math.round(host.clientWidth))),
      height: Math.min(4000, Math.max(60, Math.round(host.clientHeight))),
      theme: colours(),
      zone: zone(params.start ?? start, params.end ?? end),
      caption: "no",
    },
    { signal },
  );
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (parsed.localName !== "svg") throw new Error("the chart is not a picture");
  const picture = document.importNode(parsed, true);
  const metadata = JSON.parse(picture.querySelector("metadata").textContent);
  metadata.width = Number(picture.getAttribute("width"));
  const shown = host.querySelector("svg");
  if (shown) shown.replaceWith(picture);
  else host.replaceChildren(picture);
  host.classList.remove("failed", "before");
  host.removeAttribute("title");
  host.chart = metadata;
  return metadata;
}

/** Says in place of a chart why there is none. A chart of before stays, but faded. */
export function fail(host, error) {
  if (host.querySelector("svg")) {
    host.classList.add("before");
    host.title = `Not drawn again: ${error.message}`;
    return;
  }
  host.classList.add("failed");
  host.replaceChildren(element("span", {}, error.message));
}

/** Fills a `dl` with the readings of a chart; a single one is told with its bounds. */
export function readings(list, found, { full = false } = {}) {
  const one = (name, colour, value, lesser) => {
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = colour;
    const title = element("dt", {}, colour ? swatch : null, name);
    return element("div", {}, title, element("dd", {}, value), lesser ? element("dd", { className: "lesser" }, lesser) : null);
  };
  const items = found.flatMap(({ name, colour, latest, min, max }) => {
    if (full) return [one(name, colour, latest, `min ${min} · max ${max}`)];
    if (found.length > 1) return [one(name, colour, latest)];
    return [one(name, colour, latest), one("lowest", "", min), one("highest", "", max)];
  });
  list.replaceChildren(...items);
}

/** `dark` or `light`: what is shown now. */
export function colours() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** Where a time lies on a chart, as a part of its width. */
export function placeOf(chart, time) {
  const part = (time - chart.start) / (chart.end - chart.start);
  return (chart.plot.left + part * chart.plot.width) / chart.width;
}

/** Which time lies at a place, given in the pixels of the host as it is now. */
export function timeAt(host, x) {
  const { plot, width, start, end } = host.chart;
  const part = ((x / host.clientWidth) * width - plot.left) / plot.width;
  return start + Math.min(1, Math.max(0, part)) * (end - start);
}
