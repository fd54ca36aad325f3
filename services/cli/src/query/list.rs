//! The metrics whose names match a pattern.

use serde::Serialize;
use wildmatch::WildMatch;

use super::Format;
use super::catalogue::{Metric, Page};
use super::client::{Client, ClientError};
use crate::human::{clean, plural};
use crate::progress::Progress;
use crate::table::Table;

/// Names in one answer, as many as zibrato-local gives.
const PAGE_LENGTH: u64 = 100;
/// Most metrics that are looked at; what is beyond is left out, which is said.
const METRICS_MAX: u64 = 20_000;

/// What matches.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Listed {
    metrics: Vec<Metric>,
    /// Whether there were more than [`METRICS_MAX`].
    is_cut: bool,
}

impl Listed {
    pub(super) fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }
}

/// The metrics that match, in the order of their names.
pub(super) async fn matching(
    client: &Client,
    pattern: &str,
    progress: &Progress,
) -> Result<Listed, ClientError> {
    let lower = pattern.to_lowercase();
    let matcher = WildMatch::new(&lower);
    // The server looks for a part of the name; the longest one that is certain finds the fewest.
    let certain = lower.split('*').max_by_key(|part| part.len()).unwrap_or_default();
    let mut listed = Listed { metrics: Vec::new(), is_cut: false };
    let mut offset = 0;
    while !listed.is_cut {
        let parameters = [
            ("name", certain.to_owned()),
            ("offset", offset.to_string()),
            ("length", PAGE_LENGTH.to_string()),
        ];
        let Some(page) = client.read::<Page>(&["v1", "metrics"], &parameters).await? else { break };
        let count = page.metrics.len() as u64;
        offset += count;
        progress.at(offset, || format!("{offset} of {}", page.query.found));
        listed
            .metrics
            .extend(page.metrics.into_iter().filter(|metric| matcher.matches(&metric.name.to_lowercase())));
        if count == 0 || offset >= page.query.found {
            break;
        }
        listed.is_cut = offset >= METRICS_MAX;
    }
    Ok(listed)
}

#[derive(Serialize)]
struct Json<'a> {
    metrics: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    kind: Option<&'static str>,
    levels: &'a [String],
    unit: &'a str,
}

impl<'a> Row<'a> {
    fn of(metric: &'a Metric) -> Self {
        Self {
            name: &metric.name,
            kind: metric.kind().map(super::catalogue::Kind::as_str),
            levels: metric.levels(),
            unit: metric.unit(),
        }
    }

    fn cells(&self) -> [String; 4] {
        let Self { name, kind, levels, unit } = self;
        [clean(name), kind.unwrap_or_default().to_owned(), clean(&levels.join(" ")), clean(unit)]
    }
}

/// The list in that format.
pub(super) fn print(listed: &Listed, format: Format) -> String {
    let rows: Vec<_> = listed.metrics.iter().map(Row::of).collect();
    match format {
        // Texts have no way to fail.
        Format::Json => serde_json::to_string(&Json { metrics: rows }).unwrap_or_default() + "\n",
        Format::Csv => {
            let mut text = "name,kind,levels,unit\n".to_owned();
            for row in &rows {
                text += &(row.cells().map(|cell| super::print::csv_cell(&cell)).join(",") + "\n");
            }
            text
        }
        Format::Table => {
            let mut table =
                Table::new([("NAME", false), ("KIND", false), ("LEVELS", false), ("UNIT", false)]);
            rows.iter().for_each(|row| table.row(row.cells()));
            let cut = if listed.is_cut { format!(", cut at {METRICS_MAX} looked at") } else { String::new() };
            format!("{table}{}{cut}\n", plural(rows.len(), "metric"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        let metric = |json: &str| serde_json::from_str(json).unwrap();
        let metrics = vec![
            metric(r#"{"name":"a.b","origin":{"kind":"timer","levels":["info","audit"],"unit":"s, or so"}}"#),
            metric(r#"{"name":"c"}"#),
        ];
        Listed { metrics, is_cut: false }
    }

    #[test]
    fn a_list_is_a_table_csv_or_json() {
        let table = print(&listed(), Format::Table);
        assert_eq!(table, "NAME  KIND   LEVELS      UNIT\na.b   timer  info audit  s, or so\nc\n2 metrics\n");
        let csv = print(&listed(), Format::Csv);
        assert_eq!(csv, "name,kind,levels,unit\na.b,timer,info audit,\"s, or so\"\nc,,,\n");
        let json = print(&listed(), Format::Json);
        let expected = r#"{"metrics":[{"name":"a.b","kind":"timer","levels":["info","audit"],"unit":"s, or so"},{"name":"c","kind":null,"levels":[],"unit":""}]}"#;
        assert_eq!(json, format!("{expected}\n"));
    }
}
