//! Which form of the page a reader asks for.

use super::text::Text;

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text of either kind.
    Text(Text),
    /// Families in protobuf.
    Protobuf,
}

impl Format {
    /// Its content type.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text(Text::OpenMetrics) => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text(Text::Prometheus) => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The form that `Accept` asks for most; of equals the first. Whoever asks for nothing that there is gets the text
    /// format, which people can read.
    pub(super) fn asked(accept: &str) -> Self {
        let mut best = (0.0, Self::Text(Text::Prometheus));
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let given = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let is = |name: &str, wanted: &str| given(name).is_none_or(|value| value == wanted);
            let format = match &media[..] {
                "application/openmetrics-text" if is("version", "1.0.0") => Self::Text(Text::OpenMetrics),
                "application/vnd.google.protobuf"
                    if given("proto") == Some("io.prometheus.client.MetricFamily")
                        && given("encoding") == Some("delimited") =>
                {
                    Self::Protobuf
                }
                "text/plain" if is("version", "0.0.4") => Self::Text(Text::Prometheus),
                "text/*" | "*/*" => Self::Text(Text::Prometheus),
                _ => continue,
            };
            let weight = weight(given("q"));
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }
}

/// Whether `Accept-Encoding` lets the answer be packed by gzip.
pub(super) fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let q = parameters.trim().strip_prefix("q=");
        name.trim().eq_ignore_ascii_case("gzip") && weight(q) > 0.0
    })
}

fn weight(q: Option<&str>) -> f64 {
    q.map_or(1.0, |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Format = Format::Text(Text::OpenMetrics);
    const PLAIN: Format = Format::Text(Text::Prometheus);

    #[test]
    fn the_form_asked_for_most_is_served() {
        for (accept, format) in [
            ("", PLAIN),
            ("*/*", PLAIN),
            ("text/html, */*;q=0.1", PLAIN),
            ("image/png", PLAIN),
            ("application/openmetrics-text", OPEN),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN),
            ("application/openmetrics-text;version=2.0.0", PLAIN),
            // What Prometheus 2.42 sends, without and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OPEN,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                 application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OPEN,
            ),
            ("application/vnd.google.protobuf", PLAIN),
            ("APPLICATION/OpenMetrics-Text;Version=\"1.0.0\"", OPEN),
            ("text/plain;q=0.4,application/openmetrics-text;q=0.3", PLAIN),
            ("application/openmetrics-text;q=0", PLAIN),
            ("application/openmetrics-text;q=7,;;=,q", PLAIN),
        ] {
            assert_eq!(Format::asked(accept), format, "{accept}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (header, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("x-gzip2", false),
        ] {
            assert_eq!(takes_gzip(header), takes, "{header}");
        }
    }
}
