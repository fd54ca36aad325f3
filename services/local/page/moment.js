// A moment of a metric: chosen on the charts or with the slider under them, shown as a histogram.

import { go, state } from "/assets/state.js";
import { askJson } from "/assets/server.js";
import { colours, draw, fail, placeOf, readings } from "/assets/picture.js";
import { count, date, element, quantity } from "/assets/show.js";

const WAIT_MS = 120;

/** The slider and the histogram of a metric whose charts are in `hosts`. */
export function moment(metric, hosts) {
  const slider = element("input", { type: "range", "aria-label": "Moment", min: 0, max: 1, step: 1 });
  const track = element("div", { className: "moment" }, slider);
  const text = element("p", { className: "hint", role: "status" });
  const host = element("div", { className: "chart small" });
  const values = element("dl", { className: "wide-readings" });
  const block = element(
    "section",
    { className: "panel block", "aria-labelledby": "moment-title", hidden: metric.kind !== "timer" },
    element("header", {}, element("h2", { id: "moment-title", textContent: "Distribution of a moment" })),
    text,
    host,
    values,
  );
  let waiting = 0;
  let drawing = null;

  slider.addEventListener("input", () => {
    // Said now, not when the charts have been drawn.
    slider.setAttribute("aria-valuetext", date(Number(slider.value)));
    pick(Number(slider.value));
  });

  /** Chooses the step that a time lies in. */
  function pick(time) {
    const { chart } = hosts[0];
    if (!chart) return;
    const last = chart.end - chart.step;
    const at = Math.min(last, Math.max(chart.start, Math.floor(time / chart.step) * chart.step));
    go({ at }, { replace: true });
  }

  /** Shows the chosen moment on charts that have just been drawn. */
  function place() {
    const { chart } = hosts[0];
    if (!chart) return;
    const { plot, width } = chart;
    slider.min = chart.start;
    slider.max = chart.end - chart.step;
    slider.step = chart.step;
    slider.style.left = `${(100 * plot.left) / width - 0.8}%`;
    slider.style.width = `${(100 * plot.width) / width + 1.6}%`;
    const { at } = state();
    const isShown = at !== null && at >= chart.start && at < chart.end;
    slider.value = isShown ? at : (chart.newest ?? slider.max);
    track.dataset.chosen = isShown ? "yes" : "no";
    slider.setAttribute("aria-valuetext", isShown ? date(at) : "no moment chosen");
    for (const each of hosts) cursor(each, isShown ? at : null);
    clearTimeout(waiting);
    if (metric.kind === "timer") waiting = setTimeout(() => distribution(isShown ? at : null, chart), WAIT_MS);
  }

  async function distribution(at, chart) {
    const key = [at, chart.step, state().source, colours(), chart.width].join(" ");
    if (drawing?.key === key && at !== null && at + chart.step < chart.end - 5) return;
    drawing?.abort.abort();
    const abort = new AbortController();
    drawing = { key, abort };
    if (at === null) {
      text.textContent = "Click on a chart, or move the slider under the first one with the arrow keys.";
      host.hidden = true;
      values.replaceChildren();
      return;
    }
    host.hidden = false;
    const { source } = state();
    const asked = { metric: metric.name, source, start: at, end: at + chart.step };
    try {
      const found = await askJson("/page/histogram", asked, { signal: abort.signal });
      const drawn = await draw(host, { ...asked, view: "histogram" }, { signal: abort.signal });
      text.textContent = `${date(at)}, ${count(found.count)} records in ${chart.step} s; durations within ${quantity(100 * found.error)} %`;
      readings(values, drawn.readings);
    } catch (error) {
      if (abort.signal.aborted) return;
      fail(host, error);
      drawing = null;
    }
  }

  return { track, block, pick, place };
}

/** Puts a line at a time over a chart. */
function cursor(host, at) {
  const { chart } = host;
  let line = host.querySelector(".cursor");
  if (at === null || !chart) {
    line?.remove();
    return;
  }
  if (!line) {
    line = element("div", { className: "cursor" });
    host.append(line);
  }
  line.style.left = `${100 * placeOf(chart, at + chart.step / 2)}%`;
  line.style.top = `${chart.plot.top}px`;
  line.style.height = `${chart.plot.height}px`;
}
