//! What a worker says about itself on `/metrics` and `/healthz`.

use std::time::Duration;

use zibrato_service::{Health, MetricsText};

use crate::ledger::{is_spilled, loss_name};
use crate::totals::Totals;
use crate::units::{ByReason, Units};

/// Age of the oldest batch held beyond which a worker is degraded: by then several attempts failed.
pub(crate) const OLDEST_AGE_HEALTHY: Duration = Duration::from_secs(300);

/// How long no broker may be connected before a worker is degraded. A restart takes less.
pub(crate) const NO_BROKER_HEALTHY: Duration = Duration::from_secs(10);

/// Healthy unless the spool does not take flushes, the backend refuses us, batches grow old, or no
/// broker is there.
pub(crate) fn health(totals: &Totals, now_ms: u64) -> Health {
    if totals.is_aborting {
        return Health::Degraded("the spool does not take flushes; the log says why".to_owned());
    }
    if totals.is_rejected {
        return Health::Degraded("the backend refuses credentials or address; batches are kept".to_owned());
    }
    let age_ms = totals.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
    if Duration::from_millis(age_ms) > OLDEST_AGE_HEALTHY {
        return Health::Degraded(format!(
            "the oldest of {} batches held is {} s old",
            totals.held.batches,
            age_ms / 1_000
        ));
    }
    let alone = totals.no_broker_since.map_or(Duration::ZERO, |since| since.elapsed());
    if alone > NO_BROKER_HEALTHY {
        return Health::Degraded(format!(
            "no broker has been connected for {} s; start it, or check --host, --port and --endpoint",
            alone.as_secs()
        ));
    }
    Health::Ok
}

/// The page of `/metrics`.
pub(crate) fn page(totals: &Totals, backend: &str, now_ms: u64) -> String {
    let mut text = MetricsText::new();
    let labels = [("backend", backend)];
    let counters = [
        ("zibrato_worker_messages_total", "Messages taken from the subscription.", totals.received),
        ("zibrato_worker_frames_total", "Native frames among them.", totals.ledger.frames),
        (
            "zibrato_worker_legacy_messages_total",
            "Legacy messages among them.",
            totals.ledger.legacy_messages,
        ),
        (
            "zibrato_worker_legacy_lost_total",
            "Legacy messages that a broker forwarded and that did not arrive.",
            totals.ledger.legacy_lost,
        ),
        (
            "zibrato_worker_joined_late_series_total",
            "Series with history from before the subscription, which is not posted.",
            totals.ledger.joined_late_series,
        ),
        (
            "zibrato_worker_vanished_total",
            "Publishers, each at each of its levels, that fell silent without an end frame.",
            totals.ledger.vanished,
        ),
        ("zibrato_worker_flushes_total", "Committed flushes.", totals.flushes),
        (
            "zibrato_worker_flushes_aborted_total",
            "Flushes that the spool did not take; they became part of the next one.",
            totals.flushes_aborted,
        ),
        (
            "zibrato_worker_spool_full_total",
            "Aborted flushes for which there was no room.",
            totals.spool_full,
        ),
        (
            "zibrato_worker_clock_backwards_total",
            "Flushes whose time was moved because the clock had gone back.",
            totals.clock_backwards,
        ),
        (
            "zibrato_worker_source_clashes_total",
            "Series that the backend cannot tell from another one.",
            totals.clashes,
        ),
        (
            "zibrato_worker_spool_quarantined_total",
            "Spool files put away because they were damaged.",
            totals.quarantined,
        ),
        (
            "zibrato_worker_batches_delivered_total",
            "Batches that the backend acknowledged.",
            totals.batches_delivered,
        ),
        ("zibrato_worker_attempts_total", "Attempts to send a batch.", totals.attempts),
        (
            "zibrato_worker_retries_total",
            "Attempts after which the same bytes are sent again.",
            totals.retries,
        ),
        (
            "zibrato_worker_ambiguous_total",
            "Attempts whose outcome is unknown: the batch may have been stored twice.",
            totals.ambiguous,
        ),
        ("zibrato_worker_rejections_total", "Answers that blame credentials or address.", totals.rejections),
        (
            "zibrato_worker_series_overflowed_total",
            "Series beyond a limit that were folded into overflow series, each once a flush.",
            totals.overflowed,
        ),
        (
            "zibrato_worker_series_expired_total",
            "Series forgotten because they did not change.",
            totals.expired,
        ),
    ];
    for (name, help, value) in counters {
        text.counter(name, help).sample(&labels, value);
    }
    write_intake(&mut text, totals, backend);
    write_ledger(&mut text, totals, backend);
    let units = [
        ("zibrato_worker_offered", "Taken from the ledger, before series are merged", &totals.offered),
        ("zibrato_worker_accepted", "Committed to the spool", &totals.accepted),
        ("zibrato_worker_restored", "Found in the spool at the start", &totals.restored),
        ("zibrato_worker_delivered", "Acknowledged by the backend", &totals.delivered),
    ];
    for (name, help, amounts) in units {
        write_units(&mut text, name, help, backend, amounts);
    }
    by_reason(&mut text, "zibrato_worker_refused", "Left out of bodies", backend, &totals.refused);
    by_reason(&mut text, "zibrato_worker_dropped", "Given up", backend, &totals.dropped);
    gauges(&mut text, totals, backend, now_ms);
    text.finish()
}

fn gauges(text: &mut MetricsText, totals: &Totals, backend: &str, now_ms: u64) {
    let labels = [("backend", backend)];
    let age_s = |since_ms: u64| now_ms.saturating_sub(since_ms) as f64 / 1_000.0;
    let gauges = [
        ("zibrato_worker_ledger_series", "Series in the ledger.", totals.series),
        ("zibrato_worker_spool_batches", "Batches held.", totals.held.batches),
        ("zibrato_worker_spool_bytes", "Bytes of the batches held.", totals.held.bytes),
        ("zibrato_worker_held_points", "Points of the batches held.", totals.held.units.points),
    ];
    for (name, help, value) in gauges {
        text.gauge(name, help).sample(&labels, value);
    }
    if let Some((metric, series)) = &totals.offender {
        let help = "Series beyond a limit of the metric that had most of them, when it was named last.";
        let labels = [("backend", backend), ("metric", metric)];
        text.gauge("zibrato_worker_series_offender", help).sample(&labels, *series);
    }
    text.gauge("zibrato_worker_oldest_batch_age_seconds", "Age of the oldest batch held; 0 without one.")
        .sample(&labels, totals.oldest_ms.map_or(0.0, age_s));
    if let Some(last_success_ms) = totals.last_success_ms {
        text.gauge("zibrato_worker_last_success_age_seconds", "Time since the last delivery.")
            .sample(&labels, age_s(last_success_ms));
    }
}

fn write_intake(text: &mut MetricsText, totals: &Totals, backend: &str) {
    let seen = &totals.subscription;
    for (name, help, value) in [
        ("zibrato_worker_connections_total", "Connections to brokers that came up.", seen.connections),
        ("zibrato_worker_multipart_total", "Messages of several parts, dropped.", seen.multipart),
        ("zibrato_worker_replay_pages_total", "Pages of replays that arrived whole.", seen.replay_pages),
        (
            "zibrato_worker_replay_pages_short_total",
            "Pages of replays that were asked for again.",
            seen.replay_pages_short,
        ),
        ("zibrato_worker_replays_given_up_total", "Replays given up as incomplete.", seen.replays_given_up),
        ("zibrato_worker_abandoned_total", "Messages that the end left unread.", seen.abandoned),
    ] {
        text.counter(name, help).sample(&[("backend", backend)], value);
    }
}

fn write_ledger(text: &mut MetricsText, totals: &Totals, backend: &str) {
    let ledger = &totals.ledger;
    let mut refused =
        text.counter("zibrato_worker_messages_refused_total", "Messages, frames or states not taken in.");
    for (reason, count) in &ledger.refused {
        refused.sample(&[("backend", backend), ("reason", reason)], *count);
    }
    let mut dropped = text.counter("zibrato_worker_ledger_dropped_total", "Given up by the ledger, by kind.");
    for (reason, amounts) in &ledger.dropped {
        for (kind, amount) in [
            ("counter", amounts.counters),
            ("timer", amounts.timers),
            ("gauge", amounts.gauges),
            ("legacy_counter", amounts.legacy_counters),
        ] {
            dropped.sample(&[("backend", backend), ("reason", reason), ("kind", kind)], wide(amount));
        }
    }
    let mut lost = text.counter(
        "zibrato_worker_publisher_losses_total",
        "What publishers said they refused, dropped or could not count in the ordinary way.",
    );
    for (reason, count) in ledger.publisher_losses.iter().filter(|(reason, _)| !is_spilled(**reason)) {
        lost.sample(&[("backend", backend), ("reason", &loss_name(*reason))], *count);
    }
    let spilled = ledger.publisher_losses.iter().filter(|(reason, _)| is_spilled(**reason));
    text.counter(
        "zibrato_worker_publisher_spilled_total",
        "Records that publishers said they spilled: counted and summed, their percentiles approximate.",
    )
    .sample(&[("backend", backend)], spilled.map(|(_, count)| *count).sum::<u64>());
    for (name, help, value) in [
        ("zibrato_worker_gaps_seen_total", "Frames found missing.", ledger.gaps_seen),
        ("zibrato_worker_gaps_healed_total", "Missing frames made good.", ledger.gaps_healed),
        ("zibrato_worker_gaps_lost_total", "Missing frames lost for good.", ledger.gaps_lost),
    ] {
        text.counter(name, help).sample(&[("backend", backend)], wide(value));
    }
}

fn wide(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn write_units(text: &mut MetricsText, name: &str, help: &str, backend: &str, amounts: &Units) {
    let labels = [("backend", backend)];
    // A name must not say that it is a counter's, a gauge's or a sum: to Prometheus these are types.
    for (unit, what, value) in [
        ("points", "points", amounts.points),
        ("timer_records", "records of timers", amounts.timer_records),
        ("sets", "sets of gauges", amounts.gauge_sets),
    ] {
        text.counter(&format!("{name}_{unit}_total"), &format!("{help}: {what}.")).sample(&labels, value);
    }
    // A sum of legacy counters may fall, so it is a gauge for whoever scrapes it.
    text.gauge(&format!("{name}_counted"), &format!("{help}: sum of counters."))
        .sample(&labels, amounts.counter_sum);
}

fn by_reason(text: &mut MetricsText, name: &str, help: &str, backend: &str, tally: &ByReason) {
    let mut family = text.counter(&format!("{name}_points_total"), &format!("{help}: points, by reason."));
    for (reason, units) in tally.iter() {
        family.sample(&[("backend", backend), ("reason", reason)], units.points);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::units::PointUnits;

    #[test]
    fn a_worker_is_degraded_by_old_batches_refusals_a_full_spool_and_missing_brokers() {
        let mut totals = Totals::default();
        assert_eq!(health(&totals, 1_000_000), Health::Ok);
        totals.oldest_ms = Some(700_000);
        assert_eq!(health(&totals, 1_000_000), Health::Ok);
        assert!(matches!(health(&totals, 1_000_001), Health::Degraded(why) if why.contains("300 s old")));
        totals.no_broker_since = Instant::now().checked_sub(NO_BROKER_HEALTHY);
        assert!(matches!(health(&totals, 0), Health::Degraded(why) if why.starts_with("no broker has been")));
        totals.no_broker_since = Some(Instant::now());
        assert_eq!(health(&totals, 0), Health::Ok);
        totals.is_rejected = true;
        assert!(matches!(health(&totals, 0), Health::Degraded(why) if why.contains("credentials")));
        totals.is_aborting = true;
        assert!(matches!(health(&totals, 0), Health::Degraded(why) if why.contains("spool")));
    }

    #[test]
    fn the_page_carries_the_law_and_the_reasons() {
        let mut totals = Totals { received: 7, last_success_ms: Some(1_000), ..Totals::default() };
        totals.delivered = Units::of(&[PointUnits::Timer(3), PointUnits::Counter(-1.5)]);
        totals.dropped.add("too_old", &Units::of(&[PointUnits::Gauge(1)]));
        totals.ledger.publisher_losses = [(0, 5), (6, 4), (99, 1)].into();
        let page = page(&totals, "librato", 3_500);
        for line in [
            "zibrato_worker_messages_total{backend=\"librato\"} 7\n",
            "zibrato_worker_delivered_timer_records_total{backend=\"librato\"} 3\n",
            "zibrato_worker_delivered_counted{backend=\"librato\"} -1.5\n",
            "zibrato_worker_dropped_points_total{backend=\"librato\",reason=\"too_old\"} 1\n",
            "zibrato_worker_publisher_spilled_total{backend=\"librato\"} 5\n",
            "zibrato_worker_publisher_losses_total{backend=\"librato\",reason=\"legacy_queue\"} 4\n",
            "zibrato_worker_publisher_losses_total{backend=\"librato\",reason=\"reason_99\"} 1\n",
            "zibrato_worker_last_success_age_seconds{backend=\"librato\"} 2.5\n",
        ] {
            assert!(page.contains(line), "{line} is missing in {page}");
        }
    }
}
