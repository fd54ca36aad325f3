//! Medians of the samples as a table, and where this library misses what it promises.

use crate::operations::Operation;

/// Largest ratio to `fetch_add`, by name of ours.
const RATIO_MAX: &[(&str, f64)] = &[
    ("counter", 0.35),
    ("timer, duration given", 0.7),
    ("gauge", 0.7),
    ("counter at a level that is off", 0.3),
    ("timer guard at a level that is off", 0.3),
];
/// Largest cost of a guard beside two reads of the clock, in nanoseconds.
const GUARD_NS_MAX: f64 = 0.5;
/// Largest ratio of a counter's cost beside a second thread to its cost alone.
const PAIR_RATIO_MAX: f64 = 1.1;

/// Prints the table; returns what was missed, a line each.
pub fn print(operations: &[Operation]) -> Vec<String> {
    println!("| library | operation | ns | x `fetch_add` | x alone, beside a second thread |");
    println!("|---|---|--:|--:|--:|");
    for row in operations {
        let pair = if row.pair_ratios.is_empty() {
            String::new()
        } else {
            format!("{:.2}", median(&row.pair_ratios))
        };
        let (library, name) = (row.library, row.name);
        println!(
            "| {library} | {name} | {:.2} | {:.2} | {pair} |",
            median(&row.alone_ns),
            median(&row.ratios)
        );
    }
    let find =
        |library: &str, name: &str| operations.iter().find(|row| (row.library, row.name) == (library, name));
    let mut misses = Vec::new();
    for &(name, limit) in RATIO_MAX {
        // A row that is missing or empty has no ratio, which is a miss too.
        let ratio = find("zibrato", name).map_or(f64::NAN, |row| median(&row.ratios));
        if !(ratio <= limit) {
            misses.push(format!("{name} costs {ratio:.2} x fetch_add, at most {limit} is accepted"));
        }
    }
    let ns = |library, name| find(library, name).map_or(f64::NAN, |row| median(&row.alone_ns));
    let beside = ns("zibrato", "timer guard") - ns("core", "two clock reads");
    if !(beside <= GUARD_NS_MAX) {
        misses.push(format!(
            "a guard costs {beside:.2} ns beside its clock reads, at most {GUARD_NS_MAX} is accepted"
        ));
    }
    let ratio = find("zibrato", "counter").map_or(f64::NAN, |row| median(&row.pair_ratios));
    if !(ratio <= PAIR_RATIO_MAX) {
        misses.push(format!(
            "a counter costs {ratio:.2} x beside a second thread, at most {PAIR_RATIO_MAX} is accepted"
        ));
    }
    misses
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
