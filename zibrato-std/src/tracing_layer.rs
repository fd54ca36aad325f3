//! A timer for each span of the `tracing` facade (feature `tracing`).

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::dispatcher::{Dispatch, WeakDispatch};
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;
use zibrato_core::level::Level;
use zibrato_core::metric::{Timer, TimerGuard};
use zibrato_core::registry;

use crate::add_only_map::AddOnlyMap;
use crate::run_time::{Named, RUN_TIME_METRICS_MAX};

/// Spans of this target and below it are not measured: the client does not measure itself.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

/// Records how long each span of [`tracing`] takes, into a timer with the span's name and level.
///
/// ```
/// use tracing_subscriber::prelude::*;
/// use zibrato_std::SpanTimers;
///
/// tracing_subscriber::registry().with(SpanTimers::new().layer()).init();
///
/// # #[allow(dead_code)]
/// # fn work() {
/// let _span = tracing::info_span!("db.query", table = "orders").entered();
/// # }
/// ```
///
/// A span's time is from its creation to its close, when its last handle is dropped; waiting is included,
/// as with [`Timer::instrument`]. With [`busy`](Self::busy) there is one record for each time that a thread
/// is inside of it.
///
/// # Names and levels
///
/// The timer has the span's name, mapped as [`Named`] says, and the unit `s`; its level is the span's:
/// `error`, `warning`, `info`, and on demand `debug` and `trace`. Spans of one name and level are one
/// series, wherever they are; with [`with_target`](Self::with_target) modules are told apart. Fields do not
/// become tags: most of them have too many values.
///
/// # Limits
///
/// The layer looks at nothing but spans: events go past it. Spans of this crate are left out, so that the
/// client never measures itself. Of two such layers without `busy` in one subscriber the first records.
/// Timers made here count towards [`RUN_TIME_METRICS_MAX`].
///
/// # Costs
///
/// A span of a level that is off, because nobody subscribes to it or no client runs, reads no clock. A
/// running client tells `tracing` which on-demand levels are off: their spans, unless another layer wants
/// them, are not even created then, and cost one load. A span that is measured costs what the registry of
/// `tracing-subscriber` costs, two clock reads and, without `busy`, one allocation; its timer belongs to
/// the place in the source and is found without a lock.
#[derive(Clone, Debug, Default)]
#[must_use = "give its layer to a subscriber"]
pub struct SpanTimers {
    is_busy: bool,
    has_target: bool,
}

impl SpanTimers {
    /// Times from creation to close, named after spans alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records each stay of a thread in a span instead of the span's life: the time that a thread was busy
    /// with it, as [`Timer::instrument_polls`] does.
    pub fn busy(mut self) -> Self {
        self.is_busy = true;
        self
    }

    /// Puts the span's target before its name: `my_app.db.query` for a span `query` in the module `my_app::db`.
    pub fn with_target(mut self) -> Self {
        self.has_target = true;
        self
    }

    /// The layer. It has a filter of its own, so it takes nothing from other layers.
    pub fn layer<S>(self) -> impl Layer<S> + fmt::Debug
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let timers = Arc::new(Timers { settings: self, by_callsite: AddOnlyMap::new() });
        SpanLayer(Arc::clone(&timers)).with_filter(SpanFilter(timers))
    }
}

/// The timers of all places that have spans, by the address of their metadata.
struct Timers {
    settings: SpanTimers,
    by_callsite: AddOnlyMap<usize, &'static Timer>,
}

impl Timers {
    /// The timer of a span, if it is on.
    #[inline]
    fn on(&self, metadata: &'static Metadata<'static>) -> Option<&'static Timer> {
        let timer = self.known(metadata).unwrap_or_else(|| self.make(metadata));
        registry::is_on(timer.metric()).then_some(timer)
    }

    #[inline]
    fn known(&self, metadata: &Metadata<'_>) -> Option<&'static Timer> {
        let address = address(metadata);
        self.by_callsite.find(hash(address), |known| *known == address).copied()
    }

    #[cold]
    fn make(&self, metadata: &'static Metadata<'static>) -> &'static Timer {
        let name = if self.settings.has_target {
            &format!("{}.{}", metadata.target().replace("::", "."), metadata.name())
        } else {
            metadata.name()
        };
        let timer = Named::new(name, level_from(*metadata.level())).unit("s").get();
        // Spans need not come from a static place: of those beyond the limit each one asks again.
        if self.by_callsite.len() < RUN_TIME_METRICS_MAX {
            self.by_callsite.add(hash(address(metadata)), address(metadata), || timer);
        }
        timer
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn address(metadata: &Metadata<'_>) -> usize {
    std::ptr::from_ref(metadata).addr()
}

/// Spreads addresses over all bits.
fn hash(address: usize) -> u64 {
    (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn level_from(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::ERROR,
        tracing::Level::WARN => Level::WARNING,
        tracing::Level::INFO => Level::INFO,
        tracing::Level::DEBUG => Level::DEBUG,
        tracing::Level::TRACE => Level::TRACE,
    }
}

/// Lets through the spans whose timers are on.
#[derive(Debug)]
struct SpanFilter(Arc<Timers>);

impl<S> Filter<S> for SpanFilter {
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let is_own = metadata.target().split("::").next() == Some(OWN_TARGET);
        if !metadata.is_span() || is_own {
            return Interest::never();
        }
        if !level_from(*metadata.level()).is_on_demand() {
            return Interest::always();
        }
        match self.0.known(metadata) {
            Some(timer) if registry::is_on(timer.metric()) => Interest::always(),
            Some(_) => Interest::never(),
            None => {
                // The level may be switched right now, and this answer come too late: so each span asks, until
                // `levels_switched` is called, which it soon is, since the timer is new.
                self.0.make(metadata);
                Interest::sometimes()
            }
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let is_on = |timer: &'static Timer| registry::is_on(timer.metric());
        metadata.is_span() && self.0.known(metadata).is_none_or(is_on)
    }
}

/// The dispatchers that have such a layer.
static DISPATCHERS: Mutex<Vec<WeakDispatch>> = Mutex::new(Vec::new());

/// Makes `tracing` ask again at all places which spans are wanted, after levels were switched or timers made.
pub(crate) fn levels_switched() {
    let living = living(&mut DISPATCHERS.lock().unwrap_or_else(PoisonError::into_inner));
    // If there is one dispatcher only, `tracing` asks the default of the calling thread instead, which here
    // would be none.
    if let Some(dispatcher) = living.first() {
        tracing::dispatcher::with_default(dispatcher, tracing::callsite::rebuild_interest_cache);
    }
}

/// Those that live, and forgets the others. To be dropped behind the lock: it may be the last to hold one.
fn living(dispatchers: &mut Vec<WeakDispatch>) -> Vec<Dispatch> {
    let living: Vec<_> = dispatchers.iter().filter_map(WeakDispatch::upgrade).collect();
    *dispatchers = living.iter().map(Dispatch::downgrade).collect();
    living
}

#[derive(Debug)]
struct SpanLayer(Arc<Timers>);

/// A measurement that ends with its span.
struct Life {
    _guard: TimerGuard,
}

thread_local! {
    /// The spans that this thread is in, of layers with `busy`.
    static STAYS: RefCell<Vec<(Id, TimerGuard)>> = const { RefCell::new(Vec::new()) };
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatcher: &Dispatch) {
        let mut dispatchers = DISPATCHERS.lock().unwrap_or_else(PoisonError::into_inner);
        let living = living(&mut dispatchers);
        dispatchers.push(dispatcher.downgrade());
        drop(dispatchers);
        drop(living);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.0.settings.is_busy {
            return;
        }
        let Some(timer) = self.0.on(attributes.metadata()) else { return };
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if extensions.get_mut::<Life>().is_none() {
            extensions.insert(Life { _guard: timer.start() });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if self.0.settings.is_busy {
            return;
        }
        if let Some(span) = context.span(&id) {
            drop(span.extensions_mut().remove::<Life>());
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if !self.0.settings.is_busy {
            return;
        }
        let Some(timer) = context.metadata(id).and_then(|metadata| self.0.on(metadata)) else { return };
        // A thread that ends has no list any more.
        let _ = STAYS.try_with(|stays| stays.borrow_mut().push((id.clone(), timer.start())));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        if !self.0.settings.is_busy {
            return;
        }
        let left = STAYS.try_with(|stays| {
            let mut stays = stays.borrow_mut();
            let at = stays.iter().rposition(|(entered, _)| entered == id)?;
            Some(stays.remove(at))
        });
        drop(left);
    }
}
