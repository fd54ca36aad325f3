//! What was measured, as lines for people and as JSON for machines.

use std::time::Duration;

use serde::Serialize;
use zibrato_worker::clock::WallClock;

use super::calls::Call;
use super::end_to_end::{Outcome, Part};
use crate::human;
use crate::paint::{Paint, Tone};
use crate::table::Table;

/// The table of what calls cost.
pub(super) fn calls(calls: &[Call], paint: Paint) -> String {
    let columns = [("", false), ("ns", true), ("x fetch_add", true), ("beyond two clock reads", true)];
    let mut table = Table::new(columns);
    for Call { operation, ns, fetch_adds, beyond_clock_reads_ns } in calls {
        let beyond = beyond_clock_reads_ns.map_or(String::new(), |ns| format!("{ns:+.2} ns"));
        table.row([format!("  {operation}"), format!("{ns:.2}"), format!("{fetch_adds:.2}"), beyond]);
    }
    format!("{}\n{table}\n", paint.tone(Tone::Strong, "what a call costs its thread"))
}

/// The lines of the end-to-end part.
pub(super) fn end_to_end(outcome: &Outcome, paint: Paint) -> String {
    let mut text =
        paint.tone(Tone::Strong, "from the hot loop to the ledger, through a broker and a worker") + "\n";
    let mut line = |what: &str, value: String| text += &format!("  {what:22}{value}\n");
    let asked =
        outcome.rate_asked.map_or("as many as possible".to_owned(), |rate| human::short(rate as u128));
    line(
        "timer records",
        format!(
            "{}/s over {:.1} s, asked for {asked}; {}, {}",
            human::number(outcome.timer_records_per_s),
            outcome.took_s,
            human::plural(outcome.threads as usize, "thread"),
            human::plural(outcome.timers as usize, "timer"),
        ),
    );
    line(
        "spilled",
        format!("first second {}, then {}", spilled(outcome.first_second), spilled(outcome.later)),
    );
    if outcome.counters > 0 {
        let Outcome { counters, counter_changes_per_window: changes, window_s, .. } = outcome;
        let window = human::duration(Duration::from_secs_f64(*window_s));
        line(
            "counters",
            format!("{counters} series, each changed {changes:.2} times in a window of {window}"),
        );
    }
    line("totals", totals(outcome, paint));
    let per_s = human::bytes((outcome.bytes as f64 / outcome.took_s) as u64);
    line("wire", format!("{} frames, {}, {per_s}/s", outcome.frames, human::bytes(outcome.bytes)));
    if let Some(drained) = outcome.drained_per_cpu_s {
        line("drain", format!("{} records through rings per CPU second", human::number(drained)));
    }
    if let Some(cpu) = outcome.cpu {
        let share = |seconds: f64| format!("{:.1} %", 100.0 * seconds / outcome.took_s);
        line(
            "CPU, of one core",
            format!(
                "drain {}, broker {}, worker {}, ZeroMQ {}, recording {}, counting {}",
                share(cpu.drain_s),
                share(cpu.broker_s),
                share(cpu.worker_s),
                share(cpu.zeromq_s),
                share(cpu.producers_s),
                share(cpu.counting_s),
            ),
        );
    }
    if let Some(share) = outcome.idle_share {
        line("client at rest", format!("{:.2} % of one core", 100.0 * share));
    }
    if let Some(bytes) = outcome.memory_bytes {
        line("memory", format!("{}, all parts together", human::bytes(bytes)));
    }
    text
}

fn spilled(part: Part) -> String {
    let share = part.spilled_share().map_or("-".to_owned(), |share| format!("{:.4} %", 100.0 * share));
    format!("{share} ({} of {})", human::short(part.spilled.into()), human::short(part.timer_records.into()))
}

fn totals(outcome: &Outcome, paint: Paint) -> String {
    let Outcome { timer_records, counter_sum, .. } = outcome;
    if outcome.exact {
        return format!(
            "{}: {timer_records} timer records and a counter sum of {counter_sum}, in the ledger and behind it",
            paint.tone(Tone::Good, "exact")
        );
    }
    format!(
        "{}: recorded {timer_records} and {counter_sum}, in the ledger {} and {}, behind it {} and {}",
        paint.tone(Tone::Bad, "NOT EXACT"),
        outcome.ledger_timer_records,
        outcome.ledger_counter_sum,
        outcome.store_timer_records,
        outcome.store_counter_sum,
    )
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    unix_ms: u64,
    debug_build: bool,
    calls: Option<&'a [Call]>,
    end_to_end: Option<&'a Outcome>,
}

/// One JSON object on one line.
pub(super) fn json(calls: Option<&[Call]>, end_to_end: Option<&Outcome>) -> String {
    let object = Json {
        version: env!("CARGO_PKG_VERSION"),
        unix_ms: WallClock::system().now_ms(),
        debug_build: cfg!(debug_assertions),
        calls,
        end_to_end,
    };
    // Texts and numbers have no way to fail.
    serde_json::to_string(&object).unwrap_or_default() + "\n"
}
