//! Devices with the firmware's own code, the real gateway, and everything behind it: totals are exact whatever
//! restarts, is unplugged or makes noise.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::fs;
use std::time::Duration;

use zibrato_core::frame::{Sample, SampleFrame, SampleValue};
use zibrato_e2e::{
    Broker, Device, Gateway, Local, Process, Random, Tally, TallyWorker, Truth, Truths, Worker, arrived,
    assert_truths, directory, get, settle, together, until,
};
use zibrato_std::socket;

/// How long the last windows, a replay and a flush may take.
const ARRIVES: Duration = Duration::from_secs(30);
/// How long what has left the gateway takes to a reader.
const LEVELS: [&str; 2] = ["info", "audit"];

/// A broker, and a worker that adds up.
struct Behind {
    broker: Broker,
    tally: Tally,
    worker: TallyWorker,
    _spool: tempfile::TempDir,
}

impl Behind {
    fn start() -> Self {
        let (broker, tally, spool) = (Broker::start(), Tally::default(), directory());
        let worker = TallyWorker::start(&[&broker.workers], &LEVELS, spool.path(), &tally);
        broker.subscribed(LEVELS.len());
        Self { broker, tally, worker, _spool: spool }
    }

    /// Waits until exactly this has come.
    fn has(&self, truths: &Truths, context: &str) {
        let came = settle(truths, ARRIVES, || self.tally.truths());
        assert_truths(truths, &came, context);
    }

    fn finish(self, truths: &Truths, context: &str) -> zibrato_worker::totals::Totals {
        self.has(truths, context);
        let totals = self.worker.stop();
        assert_truths(truths, &self.tally.truths(), context);
        assert_eq!(totals.ledger.gaps_lost, 0, "{context}: {totals:?}");
        self.broker.finish();
        totals
    }
}

fn tcp(device: &Device) -> String {
    format!("dev={}", device.addr)
}

#[test]
fn two_devices_over_tcp_and_a_terminal_arrive_exactly_in_the_store() {
    let (broker, at) = (Broker::start(), directory());
    let local = Local::start(at.path());
    let worker = Worker::start(&broker.workers, "info,audit", &local.url(), &at.path().join("spool"));
    broker.subscribed(2);
    let mut one = Device::listen(1, &["--seed", "5"]);
    let gateway = Gateway::start(&broker.publishers, &["--tcp", &format!("one={}", one.addr), "--pty=two"]);
    let mut two = Device::open(1, &gateway.terminal(), &["--seed", "6"]);
    one.begin(2_000);
    two.run(2_000);
    one.ran();
    for source in ["one", "two"] {
        gateway.counted("zibrato_gateway_samples_total", &[("device", source)], 1.0);
    }
    let (_, status) = get(&gateway.http, "/status");
    for text in
        ["\"service\":\"gateway\"", "\"source\":\"one\"", "\"source\":\"two\"", "\"program\":\"simdevice\""]
    {
        assert!(status.contains(text), "{text} in {status}");
    }
    assert_eq!(get(&gateway.http, "/healthz").1, "ok\n");
    let metrics = gateway.metrics();
    for source in ["one", "two"] {
        let sum = |name: &str| metrics.sum(name, &[("device", source)]);
        assert_eq!(sum("zibrato_gateway_connected") as u64, 1);
        assert_eq!(sum("zibrato_gateway_descriptors") as u64, 8);
        assert!(sum("zibrato_gateway_samples_total") > 0.0);
        // The first frames may be from before the connection.
        assert_eq!(sum("zibrato_gateway_bad_frames_total") as u64, 0, "{source}");
    }
    let truths = [("one", one.truths()), ("two", two.truths())];
    one.end();
    two.end();
    for (source, truth) in &truths {
        let came = settle(truth, ARRIVES, || arrived(&local.db, source));
        assert_truths(truth, &came, source);
    }
    gateway.finish();
    worker.finish();
    local.finish();
    broker.finish();
}

#[test]
fn a_device_behind_a_serial_port_arrives_exactly_and_its_unplugging_is_noticed() {
    let behind = Behind::start();
    let mut device = Device::serial(8, &[]);
    let args = ["--serial", &format!("dev={}", device.addr), "--baud", "921600"];
    let mut gateway = Gateway::start(&behind.broker.publishers, &args);
    gateway.counted("zibrato_gateway_descriptors", &[], 8.0);
    device.run(1_500);
    let truths = device.truths();
    behind.has(&truths, "behind a serial port");
    // What a port holds when it is unplugged, the system throws away.
    device.kill();
    gateway.process.line("not connected: tried again");
    until("a device that is gone", || {
        get(&gateway.http, "/healthz").1.contains("no device is connected").then_some(())
    });
    let said = gateway.finish();
    behind.finish(&truths, &said);
}

#[test]
fn a_gateway_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let behind = Behind::start();
    let mut device = Device::listen(9, &[]);
    for round in 0..5 {
        let gateway = Gateway::start(&behind.broker.publishers, &["--tcp", &tcp(&device)]);
        gateway.counted("zibrato_gateway_messages_total", &[], 4.0);
        device.run(700);
        if round % 2 == 0 {
            device.run(300);
            gateway.process.kill();
        } else {
            gateway.finish();
        }
        // Nobody is there to hear this.
        device.run(200);
    }
    let gateway = Gateway::start(&behind.broker.publishers, &["--tcp", &tcp(&device)]);
    let truths = device.truths();
    behind.has(&truths, "before the end");
    device.run(10);
    let truths = device.truths();
    device.end();
    behind.has(&truths, "at the end");
    let said = gateway.finish();
    let totals = behind.finish(&truths, &said);
    assert_eq!((totals.ledger.ended, totals.ledger.joined_late_series), (2, 0), "{:?}", totals.ledger);
}

#[test]
fn a_device_that_starts_again_is_another_publisher_and_the_boots_add_up() {
    let behind = Behind::start();
    let mut device = Device::listen(1, &["--seed", "1"]);
    let proxy = Relay::to(&device.addr);
    let gateway = Gateway::start(&behind.broker.publishers, &["--tcp", &format!("dev={}", proxy.addr())]);
    let mut sum = Truths::new();
    for boot in 2..5 {
        device.run(500);
        sum = together(&sum, &device.truths());
        // What a device had not sent yet dies with it.
        behind.has(&sum, "before the reset");
        device.kill();
        device = Device::listen(boot, &["--seed", &boot.to_string()]);
        proxy.turn_to(&device.addr);
        device.run(20);
    }
    sum = together(&sum, &device.truths());
    behind.has(&sum, "after the resets");
    gateway.counted("zibrato_gateway_resets_total", &[], 3.0);
    let said = gateway.finish();
    let totals = behind.finish(&sum, &said);
    // Three levels of each boot that is over; level debug nobody subscribed to.
    assert_eq!(totals.ledger.ended, 6, "{said}");
}

#[test]
fn noise_costs_frames_that_are_counted_and_no_totals() {
    let behind = Behind::start();
    let mut device = Device::listen(3, &["--window-ms", "20", "--seed", "11"]);
    let gateway = Gateway::start(&behind.broker.publishers, &["--tcp", &tcp(&device)]);
    device.run(200);
    device.noise(250);
    device.run(40_000);
    device.noise(0);
    device.run(50);
    gateway.counted("zibrato_gateway_bad_frames_total", &[], 20.0);
    gateway.counted("zibrato_gateway_frames_lost_total", &[], 20.0);
    let truths = device.truths();
    device.end();
    behind.has(&truths, "at the end");
    assert_eq!(gateway.metrics().sum("zibrato_gateway_resets_total", &[]) as u64, 0, "noise ends no boot");
    let said = gateway.finish();
    behind.finish(&truths, &said);
}

#[test]
fn an_unplugged_device_goes_on_counting_and_is_found_again() {
    let behind = Behind::start();
    let mut device = Device::listen(4, &[]);
    let gateway = Gateway::start(&behind.broker.publishers, &["--tcp", &tcp(&device)]);
    gateway.counted("zibrato_gateway_descriptors", &[], 8.0);
    device.run(500);
    for _ in 0..2 {
        device.plug(false);
        until("a device that is gone", || {
            let (_, health) = get(&gateway.http, "/healthz");
            health.contains("no device is connected").then_some(())
        });
        device.run(500);
        device.plug(true);
        let before = gateway.metrics().sum("zibrato_gateway_frames_total", &[]);
        gateway.counted("zibrato_gateway_frames_total", &[], before + 1.0);
    }
    let truths = device.truths();
    behind.has(&truths, "after it was plugged in");
    device.end();
    let said = gateway.finish();
    for (text, times) in [("not connected: tried again", 3), ("connected again", 2)] {
        // The last one is for the device that ended.
        let lines = said.lines().filter(|line| line.contains(text)).count();
        assert!(lines <= times && lines + 1 >= times, "{text} {lines} times: {said}");
    }
    behind.finish(&truths, &said);
}

#[test]
fn a_recording_that_is_played_gives_the_same_totals() {
    let at = directory();
    let file = at.path().join("run.zdev");
    let behind = Behind::start();
    let mut device = Device::listen(5, &[]);
    let gateway = Gateway::recording(&behind.broker.publishers, &["--tcp", &tcp(&device)], &file);
    gateway.counted("zibrato_gateway_descriptors", &[], 8.0);
    device.run(1_500);
    let truths = device.truths();
    device.end();
    behind.has(&truths, "live");
    let said = gateway.finish();
    behind.finish(&truths, &said);
    let path = file.to_str().unwrap();
    for speed in ["0", "8"] {
        let behind = Behind::start();
        let replay = format!("dev={path}");
        let said = Gateway::start(&behind.broker.publishers, &["--replay", &replay, "--speed", speed]).wait();
        behind.finish(&truths, &said);
    }
    // What is readable of a file that was cut is played, and one line says where it was cut.
    let cut = at.path().join("cut.zdev");
    let bytes = fs::read(&file).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 7]).unwrap();
    let broker = Broker::start();
    let args = ["--replay", cut.to_str().unwrap(), "--speed", "0"];
    let said = Gateway::start(&broker.publishers, &args).wait();
    assert!(said.contains("replay ends early") && said.contains("the recording was cut at byte"), "{said}");
    broker.finish();
}

#[test]
fn a_subscription_opens_the_gate_on_the_device_and_its_end_shuts_it_after_the_hold() {
    let broker = Broker::start();
    let mut device = Device::listen(6, &[]);
    let gateway = Gateway::start(&broker.publishers, &["--tcp", &tcp(&device), "--hold", "1"]);
    gateway.counted("zibrato_gateway_descriptors", &[], 8.0);
    assert!(!device.trace());
    let context = zmq::Context::new();
    for _ in 0..2 {
        let socket = socket::subscriber(&context).unwrap();
        socket::connect(&socket, &broker.workers).unwrap();
        // As XSUB sockets subscribe.
        assert_eq!(socket::send_now(&socket, b"\x01\x01debug\0").unwrap(), socket::Sent::Accepted);
        until("a device whose level is on", || {
            let _ = socket::recv_now(&socket).unwrap();
            device.trace().then_some(())
        });
        until("a level that is told to be on", || {
            get(&gateway.http, "/status").1.contains("\"levels_on\":[\"debug\"]").then_some(())
        });
        drop(socket);
        until("a device whose level is off", || (!device.trace()).then_some(()));
    }
    gateway.finish();
    broker.finish();
}

#[test]
fn each_sample_of_a_device_reaches_who_asks_for_samples() {
    let broker = Broker::start();
    let mut device = Device::listen(7, &[]);
    let gateway = Gateway::start(&broker.publishers, &["--tcp", &tcp(&device)]);
    gateway.counted("zibrato_gateway_descriptors", &[], 8.0);
    let context = zmq::Context::new();
    let socket = socket::subscriber(&context).unwrap();
    socket::connect(&socket, &broker.workers).unwrap();
    assert_eq!(socket::send_now(&socket, b"\x01\x04info\0").unwrap(), socket::Sent::Accepted);
    // The number of the next sample by the header, and of the last one by its value.
    let (mut next, mut last) = (None, None);
    let mut look = || {
        while let Some(message) = socket::recv_now(&socket).unwrap() {
            let frame = SampleFrame::parse(&message).unwrap();
            assert_eq!(frame.source, "dev");
            assert_eq!(frame.header.first, next.unwrap_or(frame.header.first));
            next = Some(frame.header.first);
            for sample in frame.samples().map(Result::unwrap) {
                let Sample { value: SampleValue::Timer { ns }, .. } = sample else { panic!("{sample:?}") };
                assert_eq!(ns / 1_000, last.map_or(ns / 1_000, |last| last + 1));
                (next, last) = (next.map(|next| next + 1), Some(ns / 1_000));
            }
        }
        last
    };
    // Those from before the subscription are nobody's; from the first one on none may be missing.
    until("samples", || {
        device.run(1);
        look()
    });
    let before = device.samples();
    device.run(1_000);
    let made = device.samples();
    assert!(made >= before + 50);
    until("the last sample", || (look()? == made - 1).then_some(()));
    assert_eq!(gateway.metrics().sum("zibrato_gateway_samples_lost_total", &[]) as u64, 0);
    gateway.finish();
    broker.finish();
}

#[test]
fn a_flood_of_noise_costs_no_memory() {
    let broker = Broker::start();
    let mut gateway = Gateway::start(&broker.publishers, &["--stdin"]);
    let mut random = Random::new(1);
    let mut noise = vec![0; 1 << 20];
    let mut feed = |gateway: &mut Gateway| {
        noise.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&random.next().to_le_bytes()));
        gateway.process.feed(&noise);
    };
    feed(&mut gateway);
    gateway.counted("zibrato_gateway_bytes_total", &[], f64::from(1 << 20));
    let before = gateway.process.resident_bytes();
    for _ in 0..40 {
        feed(&mut gateway);
    }
    gateway.counted("zibrato_gateway_bytes_total", &[], 41.0 * f64::from(1 << 20));
    let grown = gateway.process.resident_bytes().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more after 40 MiB of noise");
    gateway.process.close_stdin();
    gateway.wait();
    broker.finish();
}

#[test]
fn what_cannot_work_is_said_on_one_line() {
    let at = directory();
    let taken = at.path().join("taken");
    fs::write(&taken, "no recording").unwrap();
    let taken = taken.to_str().unwrap();
    for (args, code, text) in [
        (vec![], 2, "no device is given"),
        (vec!["--pty", "--stdin=pty"], 2, "two devices have the source pty"),
        (vec!["--pty", "--record", taken], 1, "of --record; give the name of a new file"),
        (vec!["--replay", "/nowhere"], 1, "cannot open /nowhere of --replay"),
        (vec!["--replay", taken], 1, "not a recording of zibrato-gateway --record"),
        (vec!["--pty", "--endpoint", "nonsense"], 1, "endpoint nonsense cannot be connected to"),
    ] {
        let ended = Process::run("zibrato-gateway", &[&args[..], &["--no-http"]].concat());
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        let said = ended.stderr.lines().last().unwrap();
        assert!(said.starts_with("zibrato-gateway: error: ") && said.contains(text), "{said}");
    }
    let good = Process::run("zibrato-gateway", &["--serial", "/dev/ttyUSB0", "--check-config"]);
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
}

/// A TCP address in front of a device that is exchanged for another.
struct Relay {
    listener_addr: String,
    target: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Relay {
    fn to(target: &str) -> Self {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener_addr = listener.local_addr().unwrap().to_string();
        let target = std::sync::Arc::new(std::sync::Mutex::new(target.to_owned()));
        let shared = std::sync::Arc::clone(&target);
        std::thread::spawn(move || {
            for gateway in listener.incoming().flatten() {
                let addr = shared.lock().unwrap().clone();
                let Ok(device) = TcpStream::connect(addr) else { continue };
                for (mut from, mut to) in [
                    (gateway.try_clone().unwrap(), device.try_clone().unwrap()),
                    (device.try_clone().unwrap(), gateway.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 4_096];
                        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..bytes]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { listener_addr, target }
    }

    fn addr(&self) -> &str {
        &self.listener_addr
    }

    fn turn_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }
}

/// So that a truth of a device has what the tests look at.
#[test]
fn truths_of_boots_add_up() {
    let one = Truths::from([("c".to_owned(), Truth::Counter(2)), ("g".to_owned(), Truth::Gauge(1.0))]);
    let two = Truths::from([("c".to_owned(), Truth::Counter(3)), ("g".to_owned(), Truth::Gauge(4.0))]);
    let sum = together(&one, &two);
    assert_eq!(sum, Truths::from([("c".to_owned(), Truth::Counter(5)), ("g".to_owned(), Truth::Gauge(4.0))]));
    assert_eq!(together(&Truths::new(), &two), two);
}
