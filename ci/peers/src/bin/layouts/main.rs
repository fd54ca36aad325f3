//! Ring layouts side by side: what a push of 16 bytes into 4 096 slots costs its caller, drained by the same
//! thread, by another core between bursts, and by another core all the time.
//!
//! All layouts run in each of many rounds, in another order each time, each sample between two of a relaxed
//! `fetch_add`. The program checks that what is drained is what was pushed, and prints a table.

mod bump;
mod cores;
mod indexed;
mod layout;
mod limited;
mod linked;
mod measure;
mod private;

use cores::Cores;
use measure::{Measured, Place, Row, median};

/// Rounds; each has every layout in every situation once.
const ROUNDS: usize = 100;

fn main() {
    let Some(cores) = Cores::find() else {
        eprintln!("one CPU is not accepted: a ring is drained by another core, so give at least two");
        std::process::exit(1);
    };
    cores.pin_to_first();
    let work_steps = measure::calibrate_work();
    let mut rows: Vec<Box<dyn Measured>> = vec![
        Box::new(Row::<indexed::Indexed>::new()),
        Box::new(Row::<limited::ByNumber>::new()),
        Box::new(Row::<limited::ByAddress>::new()),
        Box::new(Row::<private::OwnTail>::new()),
        Box::new(Row::<bump::Bump>::new()),
        Box::new(Row::<linked::Shipped>::new()),
        Box::new(Row::<linked::ShippedRing>::new()),
        Box::new(Row::<linked::Rtrb>::new()),
        Box::new(Row::<linked::Heapless>::new()),
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut trips_ns = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        eprint!("\rround {} of {ROUNDS}", round + 1);
        let trip_ns = cores.round_trip_ns();
        trips_ns.push(trip_ns);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        for at in (1..order.len()).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(at, (random % (at as u64 + 1)) as usize);
        }
        for at in order {
            rows[at].sample(&cores, Place::of(trip_ns), work_steps);
        }
    }
    eprintln!();
    print(&rows, &trips_ns);
    let mut wrong = rows.iter().filter(|row| !row.is_exact()).peekable();
    if wrong.peek().is_some() {
        wrong.for_each(|row| eprintln!("{}: what was drained is not what was pushed", row.name()));
        std::process::exit(1);
    }
}

fn print(rows: &[Box<dyn Measured>], trips_ns: &[f64]) {
    for place in [Place::Near, Place::Far] {
        let trips: Vec<f64> = trips_ns.iter().copied().filter(|&ns| Place::of(ns) == place).collect();
        let name = if place == Place::Near { "near" } else { "far" };
        println!(
            "In {} of {ROUNDS} rounds the cores were {name}: a cache line went there and back in {:.0} ns.",
            trips.len(),
            median(&trips)
        );
    }
    println!();
    println!(
        "| layout | own thread: ns | x `fetch_add` | near core: ns | x `fetch_add` | live: ns added \
         | far core: ns | x `fetch_add` | live: ns added |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let own = row.own();
        print!("| {} | {:.2} | {:.2} |", row.name(), own.ns, own.ratio);
        for place in [Place::Near, Place::Far] {
            match row.remote(place) {
                Some((bursts, live_ns)) => print!(" {:.2} | {:.2} | {live_ns:.2} |", bursts.ns, bursts.ratio),
                None => print!(" | | |"),
            }
        }
        println!();
    }
}
