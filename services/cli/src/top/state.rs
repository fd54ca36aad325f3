//! Everything that is shown, as of the last second.

use std::collections::{BTreeSet, VecDeque};

use zibrato_service::PublisherReport;
use zibrato_worker::ledger::{Amounts, Counts};

use super::feed::Tick;
use super::model::{Model, RECENT_S};
use super::services::Services;
use crate::human::clean;

/// Level of the broker's own metrics, which everybody may leave out.
const BROKER_LEVEL: &str = "zibrato";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) endpoint: String,
    /// The levels listened to, separated by commas.
    pub(crate) levels: String,
    pub(crate) model: Model,
    pub(crate) counts: Counts,
    pub(crate) publishers: Vec<PublisherReport>,
    pub(crate) is_connected: bool,
    pub(crate) services: Services,
    /// Series in the ledger, those too that did not change yet.
    series_known: usize,
    /// What the ledger had accepted after each of the last seconds.
    accepted: VecDeque<Amounts>,
}

/// What all series together do in a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Rates {
    /// Increments of counters.
    pub(crate) counts: f64,
    /// Records of timers.
    pub(crate) timers: f64,
    /// Sets of gauges.
    pub(crate) gauges: f64,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(endpoint: String, levels: &[String]) -> Self {
        let accepted = VecDeque::from([Amounts::default()]);
        Self { endpoint, levels: levels.join(","), accepted, ..Self::default() }
    }

    /// Takes in what happened in one second.
    pub(crate) fn absorb(&mut self, tick: Tick) {
        let Tick { measurements, gauges, counts, series, publishers, is_connected } = tick;
        self.model.absorb(&measurements);
        gauges.iter().for_each(|(key, value)| self.model.know(key, *value));
        self.accepted.push_back(counts.accepted);
        while self.accepted.len() as u64 > RECENT_S + 1 {
            self.accepted.pop_front();
        }
        (self.counts, self.series_known, self.is_connected) = (counts, series, is_connected);
        self.publishers = publishers;
        self.publishers.sort_by(|left, right| {
            let order = |publisher: &PublisherReport| (publisher.ended, publisher.vanished);
            order(left)
                .cmp(&order(right))
                .then_with(|| left.program.cmp(&right.program))
                .then_with(|| left.host.cmp(&right.host))
                .then_with(|| left.pid.cmp(&right.pid))
                .then_with(|| left.id.cmp(&right.id))
        });
    }

    /// What all series together did in the last seconds, a second.
    pub(crate) fn rates(&self) -> Rates {
        let (Some(old), Some(new)) = (self.accepted.front(), self.accepted.back()) else {
            return Rates::default();
        };
        let seconds = (self.accepted.len() - 1).max(1) as f64;
        let a_second = |amount: fn(&Amounts) -> u128| (amount(new) - amount(old)) as f64 / seconds;
        Rates {
            counts: a_second(|amounts| amounts.counters + amounts.legacy_counters),
            timers: a_second(|amounts| amounts.timers),
            gauges: a_second(|amounts| amounts.gauges),
        }
    }

    /// What did not arrive or was not taken in, by reason; `0` if there is nothing.
    pub(crate) fn losses(&self) -> String {
        let Counts { gaps_lost, gaps_open, vanished, legacy_lost, .. } = self.counts;
        let mut losses = vec![
            ("frames", gaps_lost),
            ("missing", gaps_open),
            ("vanished", vanished.into()),
            ("legacy", legacy_lost.into()),
        ];
        losses.extend(self.counts.dropped.iter().map(|(reason, amounts)| {
            (*reason, amounts.counters + amounts.timers + amounts.gauges + amounts.legacy_counters)
        }));
        losses.extend(self.counts.refused.iter().map(|(reason, count)| (*reason, u128::from(*count))));
        let texts: Vec<_> = losses
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if texts.is_empty() { "0".to_owned() } else { texts.join(", ") }
    }

    /// Levels that publishers have and that are not listened to, as far as the broker says.
    pub(crate) fn other_levels(&self) -> Option<String> {
        let Some(Ok(broker)) = &self.services.broker else { return None };
        let listened: BTreeSet<&str> = self.levels.split(',').chain([BROKER_LEVEL]).collect();
        let published = broker.publishers.iter().filter(|publisher| !publisher.ended);
        let other: BTreeSet<&str> = published
            .flat_map(|publisher| publisher.levels.iter().map(String::as_str))
            .filter(|level| !listened.contains(level))
            .collect();
        let text = other.into_iter().map(clean).collect::<Vec<_>>().join(",");
        (!text.is_empty()).then_some(text)
    }

    /// Why there is nothing to show.
    pub(crate) fn why_empty(&self) -> String {
        if !self.is_connected {
            return format!(
                "no broker at {} yet; start one with zibrato up, or give --host and --port",
                self.endpoint
            );
        }
        match self.series_known {
            0 => format!("nothing is published at the levels {}", self.levels),
            known => format!("{known} series are known, but none changed yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use zibrato_service::{BrokerReport, KeptPublisher};

    use super::*;

    fn tick(counters: u128) -> Tick {
        let mut counts = Counts::default();
        counts.accepted.counters = counters;
        Tick {
            measurements: Vec::new(),
            gauges: Vec::new(),
            counts,
            series: 0,
            publishers: Vec::new(),
            is_connected: true,
        }
    }

    fn state() -> State {
        State::new("tcp://b:1".to_owned(), &["info".to_owned(), "audit".to_owned()])
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut state = state();
        assert_eq!(state.rates(), Rates::default());
        for second in 1..=5 {
            state.absorb(tick(second * 10));
        }
        assert_eq!(state.rates().counts, 10.0);
        for _ in 0..RECENT_S {
            state.absorb(tick(50));
        }
        assert_eq!(state.rates().counts, 0.0);
    }

    #[test]
    fn every_loss_is_named_with_its_count() {
        let mut state = state();
        assert_eq!(state.losses(), "0");
        (state.counts.gaps_lost, state.counts.legacy_lost) = (2, 3);
        state.counts.dropped.insert("too_old", Amounts { timers: 4, ..Amounts::default() });
        state.counts.refused.insert("series_limit", 5);
        assert_eq!(state.losses(), "frames 2, legacy 3, too_old 4, series_limit 5");
    }

    #[test]
    fn levels_that_running_publishers_have_and_nobody_asked_for_are_named() {
        let mut state = state();
        assert_eq!(state.other_levels(), None);
        let publisher = |levels: &[&str], ended| KeptPublisher {
            levels: levels.iter().map(|level| (*level).to_owned()).collect(),
            ended,
            ..KeptPublisher::default()
        };
        let publishers = vec![
            publisher(&["info", "debug"], false),
            publisher(&["old"], true),
            publisher(&["zibrato"], false),
        ];
        state.services.broker = Some(Ok(Box::new(BrokerReport { publishers, ..BrokerReport::default() })));
        assert_eq!(state.other_levels().as_deref(), Some("debug"));
    }

    #[test]
    fn an_empty_screen_says_why() {
        let mut state = state();
        assert!(state.why_empty().starts_with("no broker at tcp://b:1 yet; start one"));
        state.is_connected = true;
        assert_eq!(state.why_empty(), "nothing is published at the levels info,audit");
        state.series_known = 3;
        assert_eq!(state.why_empty(), "3 series are known, but none changed yet");
    }
}
