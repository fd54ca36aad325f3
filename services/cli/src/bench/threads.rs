//! What the system says of this process: processor time by part, and memory. Linux only; elsewhere nothing is known.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// Processor time of each thread since its start, in nanoseconds, by the thread's number.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage(BTreeMap<u32, (String, u64)>);

/// Processor time of the parts, in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(super) struct Cpu {
    /// The client's drain thread.
    pub(super) drain_s: f64,
    /// The broker's thread.
    pub(super) broker_s: f64,
    /// The worker's subscription and ledger.
    pub(super) worker_s: f64,
    /// ZeroMQ's own threads, of client, broker and worker together.
    pub(super) zeromq_s: f64,
    /// The threads that record, which never sleep.
    pub(super) producers_s: f64,
    /// The thread that changes counters.
    pub(super) counting_s: f64,
}

impl Usage {
    /// What the threads of this process have taken until now; `None` if the system does not say.
    pub(super) fn now() -> Option<Self> {
        let tasks = fs::read_dir("/proc/self/task").ok()?;
        let usage = tasks.flatten().filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let read = |name| fs::read_to_string(task.path().join(name)).ok();
            // The first number of three.
            let ns = read("schedstat")?.split(' ').next()?.parse().ok()?;
            Some((thread, (read("comm")?.trim_end().to_owned(), ns)))
        });
        Some(Self(usage.collect())).filter(|usage| !usage.0.is_empty())
    }

    /// What the parts have taken since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Cpu {
        let mut cpu = Cpu::default();
        for (thread, (name, ns)) in &self.0 {
            let before = earlier.0.get(thread).map_or(0, |(_, ns)| *ns);
            let part = match name.as_str() {
                "zibrato-drain" => &mut cpu.drain_s,
                "zibrato-broker" => &mut cpu.broker_s,
                "subscription" | "ledger" => &mut cpu.worker_s,
                super::load::PRODUCER => &mut cpu.producers_s,
                super::load::COUNTING => &mut cpu.counting_s,
                name if name.starts_with("ZMQ") => &mut cpu.zeromq_s,
                _ => continue,
            };
            *part += ns.saturating_sub(before) as f64 / 1e9;
        }
        cpu
    }
}

/// Resident memory of this process now, in bytes; `None` if the system does not say.
pub(super) fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_by_the_name_of_the_thread() {
        let before = Usage::now().unwrap();
        let spin = || {
            let began = std::time::Instant::now();
            while began.elapsed().as_millis() < 20 {}
            Usage::now().unwrap()
        };
        let thread = std::thread::Builder::new().name("zibrato-drain".to_owned()).spawn(spin).unwrap();
        let cpu = thread.join().unwrap().since(&before);
        assert!(cpu.drain_s > 0.0 && cpu.broker_s == 0.0, "{cpu:?}");
        assert!(memory_bytes().unwrap() > 1 << 20);
    }
}
