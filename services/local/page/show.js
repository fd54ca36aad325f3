// Elements, numbers and times as people read them. Whatever comes from outside becomes text, never markup.

/** An element with properties, `data-` and `aria-` attributes, and children; what is null is left out. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const NOTHING = "–";
const LARGE = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const SMALL = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
const PREFIXED = ["s", "Hz", "W", "V", "A", "J", "m", "g", "Pa"];
const WHOLE = ["B", "bit", "b"];

/** A number with three digits, prefix and unit, in the same way as the server writes them at charts. */
export function quantity(value, unit = "", { perSecond = false } = {}) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  const takesPrefix = PREFIXED.includes(unit) || WHOLE.includes(unit);
  const [factor, prefix] = scale(value, unit, perSecond);
  const number = digits(value / factor);
  const per = perSecond ? "/s" : "";
  if (!unit) return number + prefix + per;
  return takesPrefix ? `${number} ${prefix}${unit}${per}` : `${number}${prefix} ${unit}${per}`;
}

function scale(value, unit, perSecond) {
  const size = Math.abs(value);
  if (unit !== "s" || perSecond) {
    const found = LARGE.find(([factor]) => size >= factor * 0.9995);
    if (found) return found;
  }
  if (PREFIXED.includes(unit) && !perSecond && size > 0) {
    return SMALL.find(([factor]) => size >= factor * 0.9995) ?? [1e-9, "n"];
  }
  return [1, ""];
}

function digits(value) {
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "0";
  if (size < 1e-4 || size >= 1e6) return sign + size.toExponential(2).replace(/\.?0*e\+?/, "e");
  const before = Math.floor(Math.log10(size)) + 1;
  const text = size.toFixed(Math.min(6, Math.max(0, 3 - before)));
  return sign + (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
}

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

/** A count in full, such as `1,234,567`. */
export function count(value) {
  return value === null || value === undefined ? NOTHING : COUNT.format(value);
}

/** A span of time in its largest unit, such as `3 min`. */
export function span(seconds) {
  const size = Math.max(0, seconds);
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (size >= 2 * length || (size >= length && size % length === 0)) return `${Math.floor(size / length)} ${unit}`;
  }
  return size >= 1 || size === 0 ? `${Math.floor(size)} s` : `${Math.round(size * 1000)} ms`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

/** The wall clock at a time in seconds. */
export function clock(time) {
  return CLOCK.format(time * 1000);
}

/** Date and wall clock at a time in seconds. */
export function date(time) {
  return DATE.format(time * 1000);
}

/** The viewer's time zone, such as `Europe/Berlin (UTC+1)`. */
export function zoneName() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const minutes = offset(Date.now() / 1000);
  const sign = minutes < 0 ? "−" : "+";
  const hours = Math.floor(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60;
  const utc = minutes === 0 ? "UTC" : `UTC${sign}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
  return timeZone && timeZone !== "UTC" ? `${timeZone} (${utc})` : utc;
}

/** The offsets of the viewer's clock over a range, as `/page/chart.svg` takes them. */
export function zone(start, end) {
  let text = String(offset(start));
  for (let time = start; time < end; ) {
    const next = Math.min(time + 86400, end);
    if (offset(next) !== offset(time)) {
      let [before, after] = [time, next];
      while (after - before > 1) {
        const middle = Math.floor((before + after) / 2);
        if (offset(middle) === offset(time)) before = middle;
        else after = middle;
      }
      text += `,${after}:${offset(after)}`;
    }
    time = next;
  }
  return text;
}

/** Minutes east of UTC at a time in seconds. */
function offset(time) {
  // −0 would be written as it is.
  return -new Date(time * 1000).getTimezoneOffset() || 0;
}
