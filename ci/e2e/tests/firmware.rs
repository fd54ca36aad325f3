//! Firmware in QEMU, as it is on a board but for the machine: over its UART to the gateway and on to the store, to the
//! unit; and a level on demand switched on a device by a worker that subscribes.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use zibrato_e2e::{
    Broker, DEADLINE, Ended, Gateway, Local, PortPair, Process, Stored, Worker, directory, field, read,
    until, until_within,
};

/// Seconds that each board runs.
const RUN_S: u32 = 20;
/// How soon a worker's subscription has to reach a device.
const ON_MAX: Duration = Duration::from_secs(2);
/// How long a level outlives its last worker; see the gateway's `--hold`.
const HOLD: Duration = Duration::from_secs(2);
/// How soon after that it has to be off on the device.
const OFF_MAX: Duration = Duration::from_secs(2);

/// A board of the examples.
struct Board {
    /// The folder under `examples`, and the source at the gateway.
    name: &'static str,
    target: &'static str,
    machine: &'static [&'static str],
    /// Nanoseconds of two ticks: all clocks here have a whole number of those.
    two_ticks_ns: u64,
}

const BOARDS: [Board; 3] = [
    Board {
        name: "firmware-cortex-m",
        target: "thumbv7em-none-eabihf",
        machine: &["qemu-system-arm", "-machine", "mps2-an386"],
        two_ticks_ns: 80,
    },
    Board {
        name: "firmware-cortex-m0",
        target: "thumbv6m-none-eabi",
        machine: &["qemu-system-arm", "-machine", "microbit"],
        two_ticks_ns: 125,
    },
    Board {
        name: "firmware-riscv",
        target: "riscv32imac-unknown-none-elf",
        machine: &["qemu-system-riscv32", "-machine", "virt", "-bios", "none", "-icount", "shift=0"],
        two_ticks_ns: 2,
    },
];

/// A board that runs.
struct Running {
    board: &'static Board,
    process: Process,
    port: PortPair,
}

impl Running {
    /// Starts it; it waits for somebody to listen at its UART.
    fn start(board: &'static Board) -> Self {
        let port = PortPair::reserve();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(board.name);
        let elf = example.join("target").join(board.target).join("release").join(board.name);
        assert!(elf.exists(), "{} is missing: run ci/firmware, which builds it", elf.display());
        let mut command = Command::new(board.machine[0]);
        command
            .args(&board.machine[1..])
            .args(["-nographic", "-monitor", "none", "-semihosting-config", "enable=on,target=native"])
            .args(["-serial", &format!("tcp:127.0.0.1:{},server=on,wait=on", port.port)])
            .args(["-append", &RUN_S.to_string(), "-kernel"])
            .arg(elf);
        Self { board, process: Process::spawn(command), port }
    }

    /// How the gateway is told of it.
    fn tcp(&self) -> String {
        format!("{}=127.0.0.1:{}", self.board.name, self.port.port)
    }

    /// Waits until it says that debug is on, or off.
    fn debug_is(&self, state: &str, within: Duration) {
        let text = format!("debug is {state}\n");
        until_within(within, format!("{text:?} from {}", self.board.name), || {
            self.process.stdout().contains(&text).then_some(())
        });
    }
}

/// What a board printed at its end that it counted by itself.
struct Printed {
    board: &'static Board,
    stdout: String,
}

impl Printed {
    /// Lines of a kind: name and rest.
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&str, &str)> {
        let prefix = format!("{kind} ");
        self.stdout.lines().filter_map(move |line| {
            let line = line.strip_prefix(&prefix)?;
            Some((line.split(' ').next().unwrap(), line))
        })
    }

    fn number(line: &str, name: &str) -> u64 {
        field(line, name).parse().unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Whether all of it is stored. Gauges are points, so that only their last value could be compared, which nobody
    /// prints; their sets are the gateway's business.
    fn is_stored(&self, stored: &Stored) -> Result<(), String> {
        let source = self.board.name;
        for (name, line) in self.of_kind("counter") {
            let (sum, printed) = (stored.sum(name, source), Self::number(line, "sum"));
            if sum != printed as f64 {
                return Err(format!("{source} {name}: stored {sum}, printed {printed}"));
            }
        }
        let overhead = self.of_kind("clock").map(|(_, line)| Self::number(line, "overhead")).sum::<u64>();
        for (name, line) in self.of_kind("timer") {
            let printed = Self::number(line, "count");
            let Some(totals) = stored.get(name, source) else {
                return Err(format!("{source} {name}: nothing stored, printed {printed}"));
            };
            if totals.count != printed as f64 {
                return Err(format!("{source} {name}: stored {}, printed {printed}", totals.count));
            }
            if line.contains(" ticks=") {
                let ticks = Self::number(line, "ticks") - printed * overhead;
                let printed = ticks * self.board.two_ticks_ns / 2;
                // Each point's sum is rounded to a nanosecond.
                if totals.sum_ns.abs_diff(printed) > totals.points.len() as u64 {
                    return Err(format!(
                        "{source} {name}: stored {} ns, printed {printed} ns",
                        totals.sum_ns
                    ));
                }
            }
        }
        Ok(())
    }
}

#[test]
fn what_three_boards_count_is_stored_to_the_unit_and_debug_follows_its_worker() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("info"));
    broker.subscribed(1);
    let boards: Vec<Running> = BOARDS.iter().map(Running::start).collect();
    let devices: Vec<String> = boards.iter().map(Running::tcp).collect();
    let hold = HOLD.as_secs().to_string();
    let mut args = vec!["--hold", &hold];
    devices.iter().for_each(|device| args.extend(["--tcp", device]));
    let gateway = Gateway::start(&broker.publishers, &args);
    for Running { board, process, .. } in &boards {
        process.printed("runs for ");
        gateway.counted("zibrato_gateway_descriptors", &[("device", board.name)], 7.0);
        assert!(!process.stdout().contains("debug is"), "nobody subscribed to debug");
    }

    let debug = |to: &str| Worker::start(&broker.workers, to, &local.url(), &home.path().join("debug"));
    let began = Instant::now();
    let debugging = debug("debug");
    let subscribed = Instant::now();
    for board in &boards {
        board.debug_is("on", ON_MAX);
        println!(
            "{}: debug is on {:?} after its worker was started, which took {:?}",
            board.board.name,
            began.elapsed(),
            subscribed - began
        );
    }
    assert!(began.elapsed() < ON_MAX, "{:?}", began.elapsed());
    for board in &boards {
        until(format!("a distribution of {}", board.board.name), || {
            let stored = read(&local.db);
            let totals = stored.get("demo.loop", board.board.name)?;
            (totals.count > 0.0 && totals.histogram.total() > 0).then_some(())
        });
    }
    let leaving = Instant::now();
    let ended = debugging.process.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for board in &boards {
        board.debug_is("off", HOLD + OFF_MAX);
        println!("{}: debug is off {:?} after its worker was stopped", board.board.name, leaving.elapsed());
    }

    let mut printed = Vec::new();
    for Running { board, process, .. } in boards {
        let Ended { code, stdout, stderr } = process.wait_within(Duration::from_secs(2 * u64::from(RUN_S)));
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        println!("{}:\n{stdout}", board.name);
        printed.push(Printed { board, stdout });
    }
    // What was recorded at level debug after its worker had left.
    let debugging = debug("debug");
    let is_stored = || {
        let stored = read(&local.db);
        printed.iter().try_for_each(|printed| printed.is_stored(&stored))
    };
    let mut missing = Ok(());
    let by = Instant::now() + DEADLINE;
    until("all that was printed", || {
        missing = is_stored();
        (missing.is_ok() || Instant::now() > by - Duration::from_secs(1)).then_some(())
    });
    assert_eq!(missing, Ok(()));

    let metrics = gateway.metrics();
    for Printed { board, stdout } in &printed {
        let of_device = |name: &str| metrics.sum(name, &[("device", board.name)]) as u64;
        let line = stdout.lines().find(|line| line.starts_with("samples ")).unwrap();
        let (pushed, lost) = (Printed::number(line, "pushed"), Printed::number(line, "lost"));
        // The ring of this one runs full now and then.
        assert!(lost > 0 || board.name != "firmware-cortex-m0", "{stdout}");
        assert_eq!(of_device("zibrato_gateway_lost_on_device_total"), lost, "{}", board.name);
        assert_eq!(of_device("zibrato_gateway_samples_lost_total"), 0, "{}", board.name);
        assert_eq!(of_device("zibrato_gateway_samples_total"), pushed, "{}", board.name);
        assert_eq!(of_device("zibrato_gateway_frames_lost_total"), 0, "{}", board.name);
        assert_eq!(of_device("zibrato_gateway_bad_frames_total"), 0, "{}", board.name);
        assert_eq!(of_device("zibrato_gateway_resets_total"), 0, "{}", board.name);
    }
    debugging.finish();
    worker.finish();
    gateway.finish();
    local.finish();
    broker.finish();
}
