//! The Prometheus text format 0.0.4, written.

use std::fmt::{self, Write};

/// A page of metrics in the Prometheus text format 0.0.4.
///
/// ```
/// # use zibrato_service::MetricsText;
/// let mut text = MetricsText::new();
/// text.counter("zibrato_broker_messages_total", "Messages taken in.").value(7_u64);
/// text.gauge("zibrato_worker_held", "Points held.").sample(&[("backend", "librato")], 2.5);
/// assert!(text.finish().contains("zibrato_worker_held{backend=\"librato\"} 2.5\n"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct MetricsText {
    text: String,
}

impl MetricsText {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family of counters. Its name should end in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    /// Begins a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) -> Family<'_> {
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, false);
        self.text.push_str("\n# TYPE ");
        self.text.push_str(name);
        self.text.push(' ');
        self.text.push_str(kind);
        self.text.push('\n');
        Family { text: &mut self.text, name: name.to_owned() }
    }
}

/// The samples of one name. Made by [`MetricsText::counter`] and [`MetricsText::gauge`].
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Family<'_> {
    /// Adds the sample with these `(label, value)` pairs. Label names are the caller's to keep
    /// valid (`[a-zA-Z_][a-zA-Z0-9_]*`); label values are escaped.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) -> &mut Self {
        self.text.push_str(&self.name);
        for (index, (label, content)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, content, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, " {}", value.into());
        self
    }

    /// Adds the sample without labels.
    pub fn value(&mut self, value: impl Into<Number>) -> &mut Self {
        self.sample(&[], value)
    }
}

/// A sample's value. Integers keep all their digits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A whole number.
    Integer(u64),
    /// A floating-point number; infinities and NaN are written as the format wants them.
    Float(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(value) => value.fmt(f),
            Self::Float(f64::INFINITY) => f.write_str("+Inf"),
            Self::Float(f64::NEG_INFINITY) => f.write_str("-Inf"),
            Self::Float(value) => value.fmt(f),
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Integer(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// Help text escapes the backslash and the line feed, a label's value the double quote as well.
fn escape(text: &mut String, raw: &str, is_label: bool) {
    for char in raw.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_label => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_byte_for_byte_as_the_format_says() {
        let mut text = MetricsText::new();
        text.counter("a_total", "All \"a\"\\\nso far.").value(u64::MAX);
        text.gauge("b", "B.")
            .sample(&[("reason", "a\\b\"c\nd"), ("stage", "x")], 0.25)
            .sample(&[("reason", "inf")], f64::INFINITY)
            .sample(&[("reason", "-inf")], f64::NEG_INFINITY)
            .sample(&[("reason", "nan")], f64::NAN)
            .sample(&[], true);
        assert_eq!(
            text.finish(),
            concat!(
                "# HELP a_total All \"a\"\\\\\\nso far.\n",
                "# TYPE a_total counter\n",
                "a_total 18446744073709551615\n",
                "# HELP b B.\n",
                "# TYPE b gauge\n",
                "b{reason=\"a\\\\b\\\"c\\nd\",stage=\"x\"} 0.25\n",
                "b{reason=\"inf\"} +Inf\n",
                "b{reason=\"-inf\"} -Inf\n",
                "b{reason=\"nan\"} NaN\n",
                "b 1\n",
            )
        );
    }
}
