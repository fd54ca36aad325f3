//! `GET /page/data`: the numbers behind a chart, as JSON or CSV.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::IntoResponse;
use serde_json::json;

use super::figures::{Figures, Track};
use super::pictures::NOT_STORED;
use super::read::{self, Read};
use super::request::{Answer, PageError, Params};
use super::zone::Zone;
use crate::errors::JSON;
use crate::server::Shared;

/// Steps in a range if none are asked for.
const POINTS_DEFAULT: i64 = 300;
/// The most rows of one answer.
const ROWS_MAX: usize = 50_000;

const CSV: HeaderValue = HeaderValue::from_static("text/csv;charset=utf-8");
const HEAD: &str = "time,utc,source,count,sum,rate,min,max,mean,last,p50,p95,p99\r\n";

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
}

pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let format = params.word("format", &[("json", Format::Json), ("csv", Format::Csv)])?;
    let rows = params.number("rows", 1, ROWS_MAX as i64)?.map(|rows| rows as usize);
    let read = read::read(&app, &params, POINTS_DEFAULT).await?;
    let mut tracks = read.tracks();
    let total: usize = tracks.iter().map(|track| track.steps.len()).sum();
    if let Some(rows) = rows {
        keep_newest(&mut tracks, rows);
    } else if total > ROWS_MAX {
        return Err(PageError::parameter(format!(
            "{total} rows exceed the limit of {ROWS_MAX}; give a larger step, a shorter range or fewer sources"
        )));
    }
    let (content_type, body) = match format {
        Format::Json => (JSON, as_json(&read, &tracks, total)),
        Format::Csv => (CSV, as_csv(&tracks)),
    };
    Ok(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, NOT_STORED)], body).into_response())
}

/// Leaves the newest steps of each track: about `rows` of them in all, and one of each at least.
fn keep_newest(tracks: &mut [Track], rows: usize) {
    let each = rows.div_ceil(tracks.len().max(1));
    for track in tracks {
        track.steps.drain(..track.steps.len().saturating_sub(each));
    }
}

fn as_json(read: &Read, tracks: &[Track], total: usize) -> String {
    json!({
        "metric": read.metric.name,
        "kind": read.kind.as_str(),
        "unit": read.quantity().unit,
        "start": read.steps.range.start,
        "end": read.steps.range.end,
        "step": read.steps.step,
        "rows": total,
        "lines": tracks,
    })
    .to_string()
}

/// A row for each step of each source, in order of sources and times; what is not known is empty.
fn as_csv(tracks: &[Track]) -> String {
    let mut csv = HEAD.to_owned();
    for track in tracks {
        for Figures { time, count, sum, rate, min, max, mean, last, p50, p95, p99 } in &track.steps {
            let utc = Zone::default().wall(*time).iso();
            let source = quoted(track.source.as_deref().unwrap_or_default());
            // A text takes whatever is written into it.
            let _ = write!(csv, "{time},{utc}Z,{source},{count},{sum}");
            for number in [*rate, *min, *max, Some(*mean), Some(*last), *p50, *p95, *p99] {
                csv.push(',');
                if let Some(number) = number {
                    let _ = write!(csv, "{number}");
                }
            }
            csv.push_str("\r\n");
        }
    }
    csv
}

/// A text as a field of CSV. One that a spreadsheet would take for a formula is no longer one.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !is_formula && !text.contains([',', '"', '\r', '\n', ' ']) {
        return text.to_owned();
    }
    format!("\"{}{}\"", if is_formula { "'" } else { "" }, text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_a_row_for_each_step_and_nothing_where_nothing_is_known() {
        let figures = Figures {
            time: 1_700_000_000,
            count: 2.0,
            sum: 3.5,
            mean: 1.75,
            last: 2.0,
            ..Figures::default()
        };
        let track = Track { source: Some("a,\"b".to_owned()), steps: vec![figures] };
        assert_eq!(
            as_csv(&[track]),
            format!("{HEAD}1700000000,2023-11-14T22:13:20Z,\"a,\"\"b\",2,3.5,,,,1.75,2,,,\r\n")
        );
    }

    #[test]
    fn the_newest_rows_are_kept() {
        let steps = (0..5).map(|time| Figures { time, ..Figures::default() }).collect();
        let mut tracks = [Track { source: None, steps }, Track { source: None, steps: Vec::new() }];
        keep_newest(&mut tracks, 5);
        assert_eq!(tracks[0].steps.iter().map(|step| step.time).collect::<Vec<_>>(), [2, 3, 4]);
        keep_newest(&mut [], 5);
    }

    #[test]
    fn a_source_is_never_a_formula() {
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
        assert_eq!(quoted("web-1"), "web-1");
        assert_eq!(quoted("-1"), "\"'-1\"");
    }
}
