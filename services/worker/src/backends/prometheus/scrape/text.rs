//! The page as text: OpenMetrics 1.0.0 and the Prometheus text format 0.0.4.

use std::fmt::Write as _;

use zibrato_core::kind::Kind;

use super::super::Settings;
use super::super::buckets::{INFINITE, bound_text};
use super::page::{Group, Number, Page};
use crate::measurement::TimerTotal;

const NS_PER_S: f64 = 1e9;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Prometheus,
}

/// Writes the page. Text has no native histograms, so timers have classic buckets in any case.
pub(super) fn write(page: &Page, settings: &Settings, text: Text) -> String {
    let mut out = String::new();
    for group in page.groups() {
        // Writing to a String cannot fail.
        let _ = write_group(&mut out, group, settings, text);
    }
    if text == Text::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_group(out: &mut String, group: &Group, settings: &Settings, text: Text) -> std::fmt::Result {
    let sample = group.family.sample();
    let is_open = text == Text::OpenMetrics;
    let (name, kind) = match group.family.kind {
        Kind::Counter if !group.is_counter() => (&sample, if is_open { "unknown" } else { "untyped" }),
        Kind::Counter => (if is_open { &group.family.name } else { &sample }, "counter"),
        Kind::Gauge => (&sample, "gauge"),
        Kind::Timer => (&sample, "histogram"),
    };
    writeln!(out, "# HELP {name} {}", escaped(&group.help, is_open))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    if let Some(unit) = group.unit.as_ref().filter(|unit| is_open && name.ends_with(*unit)) {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    for (labels, shown) in &group.series {
        match &shown.value {
            Number::Plain(value) => {
                write!(out, "{sample}{{{labels}}} ")?;
                write_number(out, *value)?;
            }
            Number::Timer(timer) => write_timer(out, &sample, labels, timer, settings)?,
        }
    }
    Ok(())
}

fn write_timer(
    out: &mut String,
    name: &str,
    labels: &str,
    timer: &TimerTotal,
    settings: &Settings,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, count) in settings.bounds.cumulative(timer) {
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {count}", bound_text(bound))?;
    }
    writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{INFINITE}\"}} {}", timer.count)?;
    writeln!(out, "{name}_count{{{labels}}} {}", timer.count)?;
    write!(out, "{name}_sum{{{labels}}} ")?;
    write_number(out, timer.sum_ns as f64 / NS_PER_S)
}

fn write_number(out: &mut String, value: f64) -> std::fmt::Result {
    match value {
        f64::INFINITY => writeln!(out, "+Inf"),
        f64::NEG_INFINITY => writeln!(out, "-Inf"),
        // Else hundreds of digits.
        _ if value != 0.0 && value.is_finite() && !(1e-6..1e17).contains(&value.abs()) => {
            writeln!(out, "{value:e}")
        }
        _ => writeln!(out, "{value}"),
    }
}

/// Help text. OpenMetrics escapes the double quote too.
fn escaped(help: &str, is_open: bool) -> String {
    let text = help.replace('\\', "\\\\").replace('\n', "\\n");
    if is_open { text.replace('"', "\\\"") } else { text }
}
