// Zoom by drag, with a mouse, a pen or a finger; a click picks a moment.

import { element } from "/assets/show.js";
import { placeOf, timeAt } from "/assets/picture.js";

// Less than so many pixels is a click.
const DRAG_PX_MIN = 6;

/** Calls `zoomed(start, end)` after a drag over the chart in `host`, and `picked(time)` after a click. */
export function draggable(host, { zoomed, picked }) {
  let from = null;
  let mark = null;

  const stop = () => {
    mark?.remove();
    from = mark = null;
    removeEventListener("keydown", stopOnEscape);
  };
  const stopOnEscape = (event) => {
    if (event.key === "Escape") stop();
  };

  host.addEventListener("pointerdown", (event) => {
    if (!host.chart || event.button !== 0 || !event.isPrimary) return;
    from = place(event);
    host.setPointerCapture(event.pointerId);
    // Charts come and go; the window must not remember those that are gone.
    addEventListener("keydown", stopOnEscape);
  });

  host.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = place(event);
    if (Math.abs(to - from) < DRAG_PX_MIN && !mark) return;
    if (!mark) {
      mark = element("div", { className: "picked" });
      host.append(mark);
    }
    const [left, right] = [from, to].sort((a, b) => a - b).map((x) => edge(timeAt(host, x)));
    mark.style.left = `${left}px`;
    mark.style.width = `${right - left}px`;
    mark.style.top = `${host.chart.plot.top}px`;
    mark.style.height = `${host.chart.plot.height}px`;
  });

  host.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const times = [from, place(event)].map((x) => timeAt(host, x)).sort((a, b) => a - b);
    const dragged = mark !== null;
    stop();
    if (!dragged) {
      picked?.(times[1]);
      return;
    }
    // Two seconds at least, in whole steps.
    const { step } = host.chart;
    const start = Math.floor(times[0] / step) * step;
    const end = Math.max(Math.ceil(times[1] / step) * step, start + Math.max(2, step));
    zoomed(start, end);
  });

  host.addEventListener("pointercancel", stop);

  function place(event) {
    return event.clientX - host.getBoundingClientRect().left;
  }

  function edge(time) {
    return placeOf(host.chart, time) * host.clientWidth;
  }
}
