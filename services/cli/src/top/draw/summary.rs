//! The header: who is listened to, how much comes, and whether the numbers add up.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::state::State;
use super::super::view::View;
use super::Theme;
use crate::human::{age, bytes, clean, number, plural};

/// The lines of the header, the most important first.
pub(super) fn header(state: &State, view: &View, theme: Theme, width: usize) -> Vec<Line<'static>> {
    vec![title(state, view, theme), totals(state, theme), worker(state, theme, width)]
}

fn title(state: &State, view: &View, theme: Theme) -> Line<'static> {
    let mut spans = vec![Span::styled("zibrato top  ", theme.heading())];
    if view.is_paused {
        spans.push(Span::styled(" PAUSED ", theme.marked()));
        spans.push(Span::raw(" "));
    }
    let (text, style) =
        if state.is_connected { ("connected", theme.good()) } else { ("NOT CONNECTED", theme.bad()) };
    spans.push(Span::styled(text, style));
    spans.push(Span::raw(format!(
        "  {}  {}, {}  levels {}",
        state.endpoint.trim_start_matches("tcp://"),
        plural_series(state.model.series().len()),
        plural(state.publishers.len(), "publisher"),
        state.levels
    )));
    Line::from(spans)
}

fn plural_series(count: usize) -> String {
    format!("{count} series")
}

fn totals(state: &State, theme: Theme) -> Line<'static> {
    let rates = state.rates();
    let mut spans = vec![Span::raw(format!(
        "counts {}/s  timers {}/s  gauges {}/s",
        number(rates.counts),
        number(rates.timers),
        number(rates.gauges)
    ))];
    let lost = state.losses();
    spans.extend(labelled("  lost ", &lost, lost == "0", theme));
    let law = if state.counts.law_holds() { "holds" } else { "IS BROKEN" };
    spans.extend(labelled("  law ", law, state.counts.law_holds(), theme));
    Line::from(spans)
}

fn worker(state: &State, theme: Theme, width: usize) -> Line<'static> {
    let report = match &state.services.worker {
        None => return Line::styled("worker: not asked (--worker none)", theme.faint()),
        Some(Err(error)) => {
            // The end says what is wrong, and the start is what the screen shows.
            let text: String = format!("worker: {error}").chars().take(width).collect();
            return Line::styled(clean(&text), theme.faint());
        }
        Some(Ok(report)) => report,
    };
    let spool = &report.spool;
    let waiting = format!("{} ({} of {})", spool.batches, bytes(spool.bytes), bytes(spool.bytes_max));
    let mut spans = vec![Span::raw(format!("worker {}", clean(&report.backend)))];
    spans.extend(labelled("  spool ", &waiting, spool.oldest_ms.is_none_or(|ms| ms < 60_000), theme));
    let delivered = report.delivered_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", age(ms)));
    spans.push(Span::raw(format!("  delivered {delivered}")));
    let lost: u64 = report.lost.values().fold(0, |sum, count| sum.saturating_add(*count));
    spans.extend(labelled("  lost ", &lost.to_string(), lost == 0, theme));
    let law = report.accounts.iter().all(zibrato_service::Account::adds_up);
    spans.extend(labelled("  law ", if law { "holds" } else { "IS BROKEN" }, law, theme));
    if let Some(error) = &report.backend_error {
        spans.push(Span::styled(format!("  {}", clean(error)), theme.bad()));
    }
    Line::from(spans)
}

fn labelled(label: &str, text: &str, is_good: bool, theme: Theme) -> [Span<'static>; 2] {
    let style = if is_good { Style::new() } else { theme.bad() };
    [Span::raw(label.to_owned()), Span::styled(text.to_owned(), style)]
}
