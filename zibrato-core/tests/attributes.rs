//! What `#[count_me]` and `#[time_me]` record, looked at through the drain.
//!
//! The lints of this file are those of a strict user: the attributes must not raise any of them.
#![warn(clippy::pedantic, clippy::missing_docs_in_private_items)]

use std::collections::HashMap;
use std::fmt::Display;
use std::num::ParseIntError;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use zibrato_core::kind::Kind;
use zibrato_core::level::Level;
use zibrato_core::metric::{Metric, Timer};
use zibrato_core::{Drain, count_me, registry, time_me};

/// Sum of each counter and number of measurements of each timer, by name.
type Recorded = HashMap<&'static str, u64>;

/// A level of the program's own.
const AUDIT: Level = Level::new("audit").on_demand();
/// A name that is not a literal.
const FROM_A_CONSTANT: &str = "from.a.constant";

/// Runs `work` while no other test records, and says what it recorded.
fn recorded<R>(work: impl FnOnce() -> R) -> (R, Recorded) {
    recorded_with(&[], work)
}

/// As [`recorded`], while somebody subscribes to these levels.
fn recorded_with<R>(levels: &[&str], work: impl FnOnce() -> R) -> (R, Recorded) {
    let (_guard, mut drain) = alone();
    drain.pass(|_| ());
    let before = totals(&mut drain);
    registry::switch(true, levels.iter().map(|&level| level.into()).collect());
    let result = work();
    let mut found = totals(&mut drain);
    found.retain(|name, total| {
        *total -= before.get(name).copied().unwrap_or(0);
        *total > 0
    });
    drain.pass(|record| *found.entry(record.metric.name()).or_default() += 1);
    (result, found)
}

/// One test at a time owns the switches and the drain of the process.
fn alone() -> (MutexGuard<'static, ()>, Drain) {
    /// Held by the test that runs.
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(drain) = Drain::claim() else { panic!("the drain is held outside of this lock") };
    (guard, drain)
}

/// Total of each counter of the process.
fn totals(drain: &mut Drain) -> Recorded {
    let mut cells = vec![];
    drain.counters(&mut cells);
    let mut found = Recorded::new();
    for counter in registry::newer_than(0).1.filter(|metric| metric.kind() == Kind::Counter) {
        let cell = cells.get(counter.index() as usize).copied().unwrap_or(0);
        *found.entry(counter.name()).or_default() += cell + counter.spill().counter();
    }
    found
}

/// The registered metric of this name.
fn metric(name: &str) -> &'static Metric {
    let found = registry::newer_than(0).1.find(|metric| metric.name() == name);
    found.unwrap_or_else(|| panic!("{name} is not registered"))
}

/// Polls once, which suffices for a future that waits for nothing.
fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A future that is pending for a number of polls.
struct Later(u32);

impl Future for Later {
    type Output = &'static str;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<&'static str> {
        if self.0 == 0 {
            return Poll::Ready("done");
        }
        self.0 -= 1;
        Poll::Pending
    }
}

/// Leaves in each way that a function has.
#[count_me(level = "info", name = "leave.count", value = 5)]
#[time_me(level = "info", name = "leave.time")]
fn leave(how: &str) -> Result<u32, ParseIntError> {
    assert_ne!(how, "panic", "a panic on purpose");
    if how == "early" {
        return Ok(1);
    }
    let number: u32 = how.parse()?;
    Ok(number + 1)
}

#[test]
fn each_way_out_of_a_function_is_recorded_and_its_result_untouched() {
    for (how, result) in [("early", Some(1)), ("41", Some(42)), ("no number", None)] {
        let (returned, found) = recorded(|| leave(how));
        assert_eq!(returned.ok(), result, "{how}");
        assert_eq!(found, [("leave.count", 5), ("leave.time", 1)].into(), "{how}");
    }
    let (panicked, found) = recorded(|| catch_unwind(|| leave("panic")));
    assert!(panicked.is_err());
    assert_eq!(found, [("leave.count", 5), ("leave.time", 1)].into());
}

/// Waits for two polls.
#[count_me(level = "info", name = "later.count")]
#[time_me(level = "info", name = "later.time")]
async fn later(text: &str) -> String {
    let done = Later(2).await;
    format!("{text} {done}")
}

#[test]
fn an_async_function_is_counted_at_its_first_poll_and_timed_to_its_end() {
    let text = String::from("all");
    let (future, found) = recorded(|| Box::pin(later(&text)));
    let mut future = future;
    assert_eq!(found, Recorded::new(), "a call alone runs nothing");
    let (polled, found) = recorded(|| poll(future.as_mut()));
    assert!(polled.is_pending());
    assert_eq!(found, [("later.count", 1)].into());
    let (polled, found) = recorded(|| poll(future.as_mut()));
    assert!(polled.is_pending() && found.is_empty());
    let (polled, found) = recorded(|| poll(future.as_mut()));
    assert_eq!(polled, Poll::Ready("all done".to_owned()));
    assert_eq!(found, [("later.time", 1)].into());
    let ((), found) = recorded(|| drop(future));
    assert_eq!(found, Recorded::new(), "the end is recorded once");
}

#[test]
fn a_future_dropped_before_its_end_is_timed_and_an_unpolled_one_is_not() {
    let ((), found) = recorded(|| {
        let mut future = Box::pin(later("x"));
        assert!(poll(future.as_mut()).is_pending());
    });
    assert_eq!(found, [("later.count", 1), ("later.time", 1)].into());
    let ((), found) = recorded(|| drop(later("x")));
    assert_eq!(found, Recorded::new());
}

/// What a future needs to be given to a thread pool.
fn send<T: Send>(value: T) -> T {
    value
}

#[test]
fn an_instrumented_future_is_still_send() {
    let future = send(later("x"));
    drop(future);
}

/// A trait as `async_trait` rewrites it.
trait Fetch {
    /// Fetches.
    fn fetch<'a>(&'a self, from: &'a str) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>>;
}

impl Fetch for u32 {
    #[count_me(level = "info", name = "fetch.count", value = u64::from(*self))]
    #[time_me(level = "info", name = "fetch.time")]
    fn fetch<'a>(&'a self, from: &'a str) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
        Box::pin(async move {
            let from = from;
            let bytes = Later(1).await.len() + from.len();
            bytes * *self as usize
        })
    }
}

#[test]
fn a_boxed_future_is_measured_and_not_the_call_that_makes_it() {
    let (future, found) = recorded(|| 10.fetch("abc"));
    let mut future = future;
    assert_eq!(found, Recorded::new());
    let (polled, found) = recorded(|| poll(future.as_mut()));
    assert!(polled.is_pending());
    assert_eq!(found, [("fetch.count", 10)].into());
    let (polled, found) = recorded(|| poll(future.as_mut()));
    assert_eq!(polled, Poll::Ready(70));
    assert_eq!(found, [("fetch.time", 1)].into());
}

/// Records into a timer when it is dropped.
struct Probe(&'static Timer);

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.0.start());
    }
}

/// Has locals that take time to drop.
#[time_me(level = "info", name = "outer")]
fn with_locals(probe: Probe) -> usize {
    let mine = probe;
    let _first = Probe(mine.0);
    size_of_val(&mine)
}

#[test]
fn the_drop_of_locals_is_part_of_the_time() {
    static INNER: Timer = Timer::new("inner", Level::INFO);
    let (_guard, mut drain) = alone();
    drain.pass(|_| ());
    registry::switch(true, vec![]);
    with_locals(Probe(&INNER));
    let mut names = vec![];
    drain.pass(|record| names.push(record.metric.name()));
    assert_eq!(names, ["inner", "inner", "outer"]);
}

/// Generic and opaque in each place.
#[count_me(level = "info", name = "generic", value = items.len() as u64)]
#[time_me(level = "info", name = "generic.time")]
fn generic<'a, T, const N: usize>(
    items: &'a [T; N],
    end: impl Display + 'a,
) -> impl Iterator<Item = String> + 'a
where
    T: Display + 'a,
{
    items.iter().map(move |item| format!("{item}{end}"))
}

#[test]
fn instances_of_a_generic_function_share_one_metric() {
    let (texts, found) = recorded(|| {
        let numbers: Vec<_> = generic(&[1, 2], '!').collect();
        let words: Vec<_> = generic(&["a"], "?").collect();
        [numbers, words].concat()
    });
    assert_eq!(texts, ["1!", "2!", "a?"]);
    assert_eq!(found, [("generic", 3), ("generic.time", 2)].into());
}

/// A trait with an instrumented default.
trait Work {
    /// Not instrumented here.
    fn required(&mut self, by: u32) -> u32;

    /// Instrumented for all who do not override it.
    #[count_me(level = "info", name = "work.provided")]
    fn provided(&self) -> &'static str {
        "default"
    }
}

/// Something with methods.
#[derive(Default)]
struct Worker {
    /// What it was told so far.
    sum: u32,
}

impl Worker {
    /// Consumes itself.
    #[count_me(level = "info", name = "worker.end", value = self.sum.into())]
    fn end(self) -> u32 {
        self.sum
    }

    /// Has no receiver, returns itself, and may not be inlined.
    #[inline(never)]
    #[must_use]
    #[time_me(level = "info", name = "worker.new")]
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Work for Worker {
    #[count_me(level = "info", name = "work.required", value = by.into())]
    fn required(&mut self, by: u32) -> u32 {
        self.sum += by;
        self.sum
    }
}

#[test]
fn methods_of_types_traits_and_their_impls_are_recorded() {
    let (result, found) = recorded(|| {
        let mut worker = Worker::new();
        let results = (worker.required(3), worker.required(4), worker.provided());
        (results, worker.end())
    });
    assert_eq!(result, ((3, 7, "default"), 7));
    let expected = [("worker.new", 1), ("work.required", 7), ("work.provided", 1), ("worker.end", 7)];
    assert_eq!(found, expected.into());
}

/// Functions with unusual signatures and bodies.
mod odd {
    use super::{count_me, time_me};

    /// Has the default name.
    #[count_me(level = "info")]
    pub(super) fn r#match() {}

    /// # Safety
    /// Needs none.
    #[expect(unsafe_code, reason = "an unsafe function is what is tested")]
    #[count_me(level = "info", name = "odd.unsafe")]
    pub(super) unsafe extern "C" fn foreign(x: u8) -> u8 {
        x
    }

    /// Never returns.
    #[time_me(level = "info", name = "odd.never")]
    pub(super) fn never() -> ! {
        panic!("on purpose")
    }

    /// Has items and attributes of its own inside.
    #[time_me(level = "info", name = "odd.items")]
    #[count_me(level = "info", name = "odd.items.count", value = LIMIT)]
    pub(super) fn items() -> &'static str {
        #![allow(clippy::items_after_statements)]
        struct Counter(&'static str);
        impl Counter {
            fn add(&self) -> &'static str {
                self.0
            }
        }
        static __ZIBRATO_COUNTER: Counter = Counter("mine");
        __ZIBRATO_COUNTER.add()
    }

    /// What the attribute's value finds outside the function.
    const LIMIT: u64 = 9;
}

#[test]
fn unusual_functions_are_recorded_too() {
    let (mine, found) = recorded(|| {
        odd::r#match();
        // SAFETY: it needs nothing.
        #[expect(unsafe_code, reason = "an unsafe function is what is tested")]
        let seven = unsafe { odd::foreign(7) };
        assert_eq!(seven, 7);
        assert!(catch_unwind(|| odd::never()).is_err());
        odd::items()
    });
    assert_eq!(mine, "mine");
    let expected = [
        ("attributes::odd::match", 1),
        ("odd.unsafe", 1),
        ("odd.never", 1),
        ("odd.items", 1),
        ("odd.items.count", 9),
    ];
    assert_eq!(found, expected.into());
}

/// With all arguments.
#[time_me(
    level = AUDIT,
    name = FROM_A_CONSTANT,
    source = env!("CARGO_PKG_NAME"),
    unit = "s",
    tags("http.method" = "GET", route = concat!("/", "x")),
)]
#[count_me(level = "debug", name = "all.count", tags = [("a", "b")])]
fn with_all() {}

#[test]
fn the_arguments_reach_the_metric() {
    let ((), found) = recorded_with(&["audit"], with_all);
    assert_eq!(found, [("from.a.constant", 1)].into(), "an on-demand label is off until somebody subscribes");
    let ((), found) = recorded_with(&["debug"], with_all);
    assert_eq!(found, [("all.count", 1)].into());
    let timer = metric("from.a.constant");
    assert_eq!((timer.kind(), timer.level(), timer.unit()), (Kind::Timer, AUDIT, "s"));
    assert_eq!(timer.source(), "zibrato-core");
    assert_eq!(timer.tags(), [("http.method", "GET"), ("route", "/x")]);
    let counter = metric("all.count");
    assert_eq!((counter.kind(), counter.source(), counter.unit()), (Kind::Counter, "", ""));
    assert!(counter.level().is_on_demand());
    assert_eq!(counter.tags(), [("a", "b")]);
}

/// What a program may have as its own module of metric types.
mod metrics {
    pub(crate) use zibrato_core::level::Level;
    pub(crate) use zibrato_core::metric::Counter;
}

/// Hands tokens of a caller on to the attributes.
macro_rules! instrumented {
    ($function:ident, $level:expr, $name:expr, $value:expr, $key:literal) => {
        /// Made by a macro.
        #[count_me(level = $level, name = $name, value = $value, tags($key = "v"), crate = crate::metrics)]
        #[time_me(level = $level, tags = [($name, $name)], crate = zibrato_core)]
        fn $function() {}
    };
}
instrumented!(from_macro, "info", "macro.count", 2 + 2, "k");

/// On one line, where doubled braces would be a warning.
#[rustfmt::skip]
#[time_me(level = "info", name = "short")]
#[count_me(level = "info", name = "short.count")]
fn short() -> u8 { 1 }

/// The same with a future.
#[rustfmt::skip]
#[time_me(level = "info", name = "short.boxed")]
fn short_boxed() -> Pin<Box<impl Future<Output = u8>>> { Box::pin(async { 1 }) }

#[test]
fn the_body_may_stand_on_one_line() {
    let (one, found) = recorded(short);
    assert_eq!((one, found), (1, [("short", 1), ("short.count", 1)].into()));
    let (one, found) = recorded(|| poll(short_boxed().as_mut()));
    assert_eq!((one, found), (Poll::Ready(1), [("short.boxed", 1)].into()));
}

#[test]
fn the_attributes_work_inside_macros_and_with_a_given_path() {
    let ((), found) = recorded(from_macro);
    assert_eq!(found, [("macro.count", 4), ("attributes::from_macro", 1)].into());
    assert_eq!(metric("macro.count").tags(), [("k", "v")]);
    assert_eq!(metric("attributes::from_macro").tags(), [("macro.count", "macro.count")]);
}
