//! Metrics that register while somebody asks which are new.
#![cfg(feature = "std")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use zibrato_core::level::Level;
use zibrato_core::metric::Counter;
use zibrato_core::registry;

#[test]
fn every_metric_is_met_once_while_others_register() {
    const COUNTERS: usize = if cfg!(miri) { 100 } else { 50_000 };
    static DONE: AtomicBool = AtomicBool::new(false);
    let before = registry::newer_than(0).0;
    let registering = std::thread::spawn(|| {
        for _ in 0..COUNTERS {
            let counter: &'static Counter = Box::leak(Box::new(Counter::new("new", Level::INFO)));
            counter.add(1);
        }
        DONE.store(true, Ordering::Release);
    });
    let (mut seen, mut met) = (before, BTreeMap::<usize, u32>::new());
    loop {
        let is_last = DONE.load(Ordering::Acquire);
        let (all, new) = registry::newer_than(seen);
        seen = all;
        for metric in new {
            *met.entry(std::ptr::from_ref(metric).addr()).or_default() += 1;
        }
        if is_last {
            break;
        }
    }
    assert!(registering.join().is_ok());
    let twice = met.values().filter(|&&times| times > 1).count();
    assert_eq!((met.len(), twice), (COUNTERS, 0), "metrics met, and met twice");
}
