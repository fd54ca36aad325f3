//! The demo: a simulated service under instrumentation, as a user would write it.

pub(crate) mod random;

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use zibrato_std::{Client, Counter, Gauge, Level, Stats, Timer, count_me, time_me};

use crate::up::Error;
use random::Random;

/// The demo's window.
const WINDOW: Duration = Duration::from_millis(500);
/// Threads that serve simulated requests.
const THREADS: u64 = 4;
/// Longest simulated wait, so that an end is noticed soon.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Median pause between two requests of a thread.
const PAUSE: Duration = Duration::from_millis(12);
/// How often the gauges are set.
const GAUGES_EVERY: Duration = Duration::from_millis(100);
/// How long the simulated temperature takes to come back.
const DAY: Duration = Duration::from_secs(60);

static CACHE: Timer = Timer::new("demo.cache.get", Level::INFO).unit("s");
static QUERY: Timer = Timer::new("demo.db.query", Level::INFO).unit("s").tags(&[("table", "orders")]);
/// On demand: without a subscription to debug no clock is read.
static RENDER: Timer = Timer::new("demo.render", Level::DEBUG).unit("s");
static BYTES: Counter = Counter::new("demo.sent.bytes", Level::INFO).unit("B");
static TIMEOUTS: Counter = Counter::new("demo.timeouts", Level::ERROR);
static IN_FLIGHT: Gauge = Gauge::new("demo.requests.in_flight", Level::INFO);
static TEMPERATURE: Gauge = Gauge::new("demo.temperature", Level::INFO).unit("C").source("roof");

/// A running demo.
pub(crate) struct Demo {
    client: Client,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Demo {
    /// Starts a client and the threads that record.
    ///
    /// # Errors
    ///
    /// [`Error::Demo`] if the client does not start, [`Error::Thread`] if a thread does not.
    pub(crate) fn start(endpoint: &str) -> Result<Self, Error> {
        let client = Client::builder().endpoint(endpoint).source("demo").window(WINDOW).build()?;
        let mut demo = Self { client, stop: Arc::default(), threads: Vec::new() };
        let in_flight = Arc::new(AtomicU32::new(0));
        for seed in 0..THREADS {
            let service = Service {
                routes: ROUTES.map(|route| Responses::new(&demo.client, route)),
                random: Random::new(seed),
                in_flight: Arc::clone(&in_flight),
            };
            demo.spawn(move |stop| service.run(stop))?;
        }
        demo.spawn(move |stop| set_gauges(stop, &in_flight))?;
        Ok(demo)
    }

    /// Ends the threads, then the client: what was recorded is with the broker when this returns,
    /// or `deadline` has passed.
    pub(crate) fn stop(self, deadline: Duration) -> Option<Stats> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the demo panicked");
            }
        }
        self.client.shutdown(deadline)
    }

    fn spawn(&mut self, run: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<(), Error> {
        let stop = Arc::clone(&self.stop);
        let run = move || run(&stop);
        let thread: io::Result<_> = Builder::new().name("demo".to_owned()).spawn(run);
        self.threads.push(thread.map_err(Error::Thread)?);
        Ok(())
    }
}

const ROUTES: [&str; 3] = ["/search", "/cart", "/checkout"];

/// Counters whose tags are known only at run time. They are looked up once and kept.
struct Responses {
    ok: &'static Counter,
    failed: &'static Counter,
}

impl Responses {
    fn new(client: &Client, route: &str) -> Self {
        let counter = |status| {
            client.counter("demo.responses", Level::INFO).tag("route", route).tag("status", status).get()
        };
        Self { ok: counter("200"), failed: counter("504") }
    }
}

/// One thread of the simulated service.
struct Service {
    routes: [Responses; ROUTES.len()],
    random: Random,
    in_flight: Arc<AtomicU32>,
}

impl Service {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            // Half of the requests are searches, the others are divided among the rest.
            let route = if self.random.chance(0.5) { 0 } else { 1 + self.random.below(ROUTES.len() - 1) };
            let responses = &self.routes[route];
            match handle(&mut self.random) {
                Ok(bytes) => {
                    responses.ok.increment();
                    BYTES.add(bytes);
                }
                Err(Timeout) => responses.failed.increment(),
            }
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            thread::sleep(self.random.lognormal(PAUSE, 0.6, WAIT_MAX));
        }
    }
}

struct Timeout;

/// A request: counted and timed, however it ends.
#[count_me(level = "info", name = "demo.requests")]
#[time_me(level = "info", name = "demo.request", unit = "s")]
fn handle(random: &mut Random) -> Result<u64, Timeout> {
    let is_cached = CACHE.measure(|| look_up(random));
    if !is_cached {
        query(random)?;
    }
    Ok(render(random))
}

/// The cache: some hundred nanoseconds of real work.
fn look_up(random: &mut Random) -> bool {
    let steps = 20 + random.below(100);
    for _ in 0..steps {
        black_box(random.next());
    }
    random.chance(0.7)
}

/// The database: a wait with a long tail, and a time-out now and then.
fn query(random: &mut Random) -> Result<(), Timeout> {
    let _guard = QUERY.start();
    if random.chance(0.005) {
        thread::sleep(WAIT_MAX);
        TIMEOUTS.increment();
        return Err(Timeout);
    }
    thread::sleep(random.lognormal(Duration::from_millis(4), 0.8, WAIT_MAX));
    Ok(())
}

/// The page: a size with a long tail, too.
fn render(random: &mut Random) -> u64 {
    let guard = RENDER.start();
    let bytes = 500 + random.below(20_000) as u64;
    for _ in 0..bytes / 100 {
        black_box(random.next());
    }
    drop(guard);
    bytes
}

fn set_gauges(stop: &AtomicBool, in_flight: &AtomicU32) {
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        IN_FLIGHT.set(f64::from(in_flight.load(Ordering::Relaxed)));
        let day = started.elapsed().as_secs_f64() / DAY.as_secs_f64();
        // Below zero at night.
        TEMPERATURE.set(8.0 + 12.0 * (day * std::f64::consts::TAU).sin());
        thread::sleep(GAUGES_EVERY);
    }
}
