//! A proxy for frames that drops, repeats and reorders what flows down, and makes a publisher older.
//!
//! It is a pair of sockets like the broker's: an XSUB towards publishers and an XPUB towards
//! subscribers, one of them bound and one connected. What flows up (subscriptions, requests for
//! replays, acknowledgements) passes unharmed; what flows down is at the mercy of [`Harm`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use zibrato_core::frame::TOPIC_STATE;
use zibrato_std::socket::{self, Sent, recv_now, send_now};
use zmq::{Context, POLLIN, Socket};

/// Frames that arrive before one that was held back leaves, at most.
const HELD_FRAMES_MAX: u64 = 8;
/// How long a frame is held back at most, so that the last one leaves as well.
const HELD_TIME_MAX: Duration = Duration::from_millis(100);
/// Longest wait for messages.
const POLL_MS: i64 = 10;
/// Where the publisher's age stands behind the topic of a state frame (WIRE.md section 3).
const AGE_AT: usize = 30;

/// How likely each harm is, in percent of the frames.
#[derive(Clone, Copy, Debug)]
pub struct Harm {
    /// Frames that vanish.
    pub drop: u64,
    /// Frames that come twice.
    pub duplicate: u64,
    /// Copies that leave after up to 8 later frames.
    pub reorder: u64,
}

impl Harm {
    /// Everything arrives once and in order.
    pub const NONE: Self = Self { drop: 0, duplicate: 0, reorder: 0 };
    /// Three in ten for each harm.
    pub const THIRTY: Self = Self { drop: 30, duplicate: 30, reorder: 30 };
}

/// What a proxy did so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Done {
    /// Frames that came.
    pub came: u64,
    /// Of them dropped.
    pub dropped: u64,
    /// Of them sent twice.
    pub duplicated: u64,
    /// Copies that were held back.
    pub reordered: u64,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    endpoint: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    age_added_ms: AtomicU64,
    came: AtomicU64,
    dropped: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
}

impl Proxy {
    /// Stands between publishers, which connect to [`Proxy::endpoint`], and a broker's port for them.
    #[must_use]
    pub fn to_broker(broker_in: &str, harm: Harm, seed: u64) -> Self {
        let context = Context::new();
        let from_above = socket::broker_in(&context).unwrap();
        // Not the client's socket: that one refuses at its mark, and this one has nowhere to keep.
        let to_below = socket::broker_out(&context).unwrap();
        from_above.bind("tcp://127.0.0.1:*").unwrap();
        to_below.connect(broker_in).unwrap();
        let endpoint = from_above.get_last_endpoint().unwrap().unwrap();
        Self::start(endpoint, from_above, to_below, harm, seed)
    }

    /// Stands between a broker's port for workers and workers, which connect to [`Proxy::endpoint`].
    #[must_use]
    pub fn to_workers(broker_out: &str, harm: Harm, seed: u64) -> Self {
        let context = Context::new();
        let from_above = socket::broker_in(&context).unwrap();
        let to_below = socket::broker_out(&context).unwrap();
        from_above.connect(broker_out).unwrap();
        to_below.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = to_below.get_last_endpoint().unwrap().unwrap();
        Self::start(endpoint, from_above, to_below, harm, seed)
    }

    fn start(endpoint: String, from_above: Socket, to_below: Socket, harm: Harm, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = Thread {
            from_above,
            to_below,
            harm,
            random: Random::new(seed),
            shared: Arc::clone(&shared),
            held: Vec::new(),
        };
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || thread.run()).unwrap();
        Self { endpoint, shared, thread: Some(thread) }
    }

    /// Where the side connects that is not the broker.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes every publisher older from now on, by writing into the frames that pass.
    pub fn add_age(&self, age: Duration) {
        self.shared.age_added_ms.store(age.as_millis() as u64, Ordering::Relaxed);
    }

    /// What it did so far.
    #[must_use]
    pub fn done(&self) -> Done {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { came, dropped, duplicated, reordered, .. } = &*self.shared;
        Done {
            came: read(came),
            dropped: read(dropped),
            duplicated: read(duplicated),
            reordered: read(reordered),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A proxy that panicked has made its test fail by what did not arrive.
        self.thread.take().map(JoinHandle::join);
    }
}

struct Thread {
    from_above: Socket,
    to_below: Socket,
    harm: Harm,
    random: Random,
    shared: Arc<Shared>,
    held: Vec<Held>,
}

/// A copy that is held back.
struct Held {
    frame: Vec<u8>,
    /// Leaves when so many frames came.
    until_came: u64,
    until: Instant,
}

impl Thread {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut items = [self.from_above.as_poll_item(POLLIN), self.to_below.as_poll_item(POLLIN)];
            // An interruption is not the end; the reads say what is there.
            let _ = zmq::poll(&mut items, POLL_MS);
            while let Some(message) = recv_now(&self.to_below).unwrap() {
                let _: Sent = send_now(&self.from_above, &message).unwrap();
            }
            while let Some(frame) = recv_now(&self.from_above).unwrap() {
                assert!(!frame.get_more(), "a message of several parts, which nothing of ours sends");
                self.pass(frame.to_vec());
            }
            self.release();
        }
        // What is on its way is lost with the connection, as when a machine is switched off.
        let _ = self.to_below.set_linger(0);
        let _ = self.from_above.set_linger(0);
    }

    fn pass(&mut self, mut frame: Vec<u8>) {
        let came = self.shared.came.fetch_add(1, Ordering::Relaxed) + 1;
        self.make_older(&mut frame);
        if self.random.percent(self.harm.drop) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            let twice = self.random.percent(self.harm.duplicate);
            self.shared.duplicated.fetch_add(twice.into(), Ordering::Relaxed);
            for _ in 0..=u32::from(twice) {
                if self.random.percent(self.harm.reorder) {
                    self.shared.reordered.fetch_add(1, Ordering::Relaxed);
                    let until_came = came + 1 + self.random.below(HELD_FRAMES_MAX);
                    let until = Instant::now() + HELD_TIME_MAX;
                    self.held.push(Held { frame: frame.clone(), until_came, until });
                } else {
                    let _: Sent = send_now(&self.to_below, &frame).unwrap();
                }
            }
        }
        self.release();
    }

    /// Sends what was held back for long enough.
    fn release(&mut self) {
        let (came, now) = (self.shared.came.load(Ordering::Relaxed), Instant::now());
        let due = |held: &mut Held| held.until_came <= came || held.until <= now;
        for held in self.held.extract_if(.., due) {
            let _: Sent = send_now(&self.to_below, &held.frame).unwrap();
        }
    }

    fn make_older(&self, frame: &mut [u8]) {
        let added_ms = self.shared.age_added_ms.load(Ordering::Relaxed);
        let topic_end = frame.iter().position(|&byte| byte == 0);
        let (Some(topic_end), Some(&TOPIC_STATE)) = (topic_end, frame.first()) else { return };
        let at = topic_end + 1 + AGE_AT;
        let Some(age) = frame.get_mut(at..at + 8) else { return };
        let age_ms = u64::from_le_bytes(age.try_into().unwrap());
        age.copy_from_slice(&(age_ms + added_ms).to_le_bytes());
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): a test that failed can be run again with its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on the seed alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is above 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True in so many of a hundred cases.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
