//! The rate-limit headers, counted in fixed windows.

use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// What the headers give as the limit, in measurements a window. It is announced and counted,
/// never enforced: this receiver serves its owner, and a refusal would only make a worker spool.
const POINTS_PER_WINDOW: u64 = 600_000;
/// The length of a window in seconds. Librato's is not on record.
const WINDOW_S: i64 = 600;

const AGGREGATED: HeaderName = HeaderName::from_static("x-librato-ratelimit-agg");
const STANDARD: HeaderName = HeaderName::from_static("x-librato-ratelimit-std");

/// The measurements stored in the present window.
#[derive(Debug, Default)]
pub(crate) struct RateWindow {
    window: Mutex<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    number: i64,
    aggregated: u64,
    standard: u64,
}

impl RateWindow {
    /// Counts stored measurements: those that asked for service-side aggregation (attribute
    /// `aggregate`) and the others.
    pub(crate) fn take(&self, now: i64, aggregated: u64, standard: u64) {
        self.with(now, |window| {
            window.aggregated += aggregated;
            window.standard += standard;
        });
    }

    /// Sets both headers.
    pub(crate) fn write(&self, now: i64, headers: &mut HeaderMap) {
        let window = self.with(now, |window| *window);
        let reset = (window.number + 1) * WINDOW_S;
        for (name, taken) in [(AGGREGATED, window.aggregated), (STANDARD, window.standard)] {
            let remaining = POINTS_PER_WINDOW.saturating_sub(taken);
            let text = format!("limit={POINTS_PER_WINDOW},remaining={remaining},reset={reset}");
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }

    fn with<T>(&self, now: i64, change: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.div_euclid(WINDOW_S);
        if window.number != number {
            *window = Window { number, ..Window::default() };
        }
        change(&mut window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rate: &RateWindow, now: i64) -> [String; 2] {
        let mut headers = HeaderMap::new();
        rate.write(now, &mut headers);
        [AGGREGATED, STANDARD].map(|name| headers[name].to_str().unwrap().to_owned())
    }

    #[test]
    fn the_headers_count_down_and_start_again_with_the_next_window() {
        let rate = RateWindow::default();
        rate.take(1_200, 1, 2);
        rate.take(1_799, 0, 3);
        let expected =
            ["limit=600000,remaining=599999,reset=1800", "limit=600000,remaining=599995,reset=1800"];
        assert_eq!(headers(&rate, 1_799), expected);
        let fresh = "limit=600000,remaining=600000,reset=2400";
        assert_eq!(headers(&rate, 1_800), [fresh, fresh]);
        rate.take(1_800, 0, u64::MAX / 2);
        assert_eq!(headers(&rate, 1_800)[1], "limit=600000,remaining=0,reset=2400");
    }
}
