//! The accounts that programs print at their end, read and added up again.

/// Units by kind: a counter's are the sum of its values, a timer's its records, a gauge's its sets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flow {
    /// Sum of the values added to counters.
    pub counters: u64,
    /// Records of timers.
    pub timers: u64,
    /// Times that gauges were set.
    pub gauges: u64,
}

impl Flow {
    fn plus(self, other: Self) -> Self {
        Self {
            counters: self.counters + other.counters,
            timers: self.timers + other.timers,
            gauges: self.gauges + other.gauges,
        }
    }
}

/// What a client says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLaw {
    /// Measurements at levels that were on.
    pub offered: Flow,
    /// Those that were counted.
    pub accepted: Flow,
    /// Those that were not.
    pub refused: Flow,
    /// Those whose end frame was acknowledged.
    pub delivered: Flow,
    /// Those that stayed in the client.
    pub held: Flow,
    /// Those that were lost in it.
    pub dropped: Flow,
    /// Records that found a full ring: exact in count and sum, at their mean in the histogram.
    pub spilled: u64,
}

impl ClientLaw {
    /// Reads the account out of what a program wrote, and adds it up.
    ///
    /// # Panics
    /// If there is none, or `offered = accepted + refused` or `accepted = delivered + held + dropped` does
    /// not hold.
    pub fn read(stderr: &str) -> Self {
        let flow = |name: &str| {
            let words = stderr.rsplit_once(&format!("{name} [")).and_then(|(_, rest)| rest.split_once(']'));
            let Some((words, _)) = words else { panic!("no {name} in {stderr}") };
            Flow {
                counters: number_after(words, "counters"),
                timers: number_after(words, "timers"),
                gauges: number_after(words, "gauges"),
            }
        };
        let law = Self {
            offered: flow("offered"),
            accepted: flow("= accepted"),
            refused: flow("refused"),
            delivered: flow("delivered"),
            held: flow("held"),
            dropped: flow("dropped"),
            spilled: if stderr.contains(" spilled ") { number_after(stderr, "spilled") } else { 0 },
        };
        assert_eq!(law.offered, law.accepted.plus(law.refused), "{stderr}");
        assert_eq!(law.accepted, law.delivered.plus(law.held).plus(law.dropped), "{stderr}");
        law
    }
}

/// What a broker says it did with the messages it received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerSum {
    /// Messages received.
    pub received: u64,
    /// Messages with a subscriber.
    pub forwarded: u64,
    /// Messages without.
    pub no_subscriber: u64,
    /// Messages refused.
    pub refused: u64,
}

impl BrokerSum {
    /// Reads the sum out of the log, and adds it up.
    ///
    /// # Panics
    /// If there is none, or it does not hold.
    pub fn read(stderr: &str) -> Self {
        let sum = stderr.rsplit_once("sum=received").map(|(_, rest)| rest.lines().next().unwrap_or_default());
        let Some(sum) = sum else { panic!("no sum in {stderr}") };
        let words = format!("received{sum}");
        let sum = Self {
            received: number_after(&words, "received"),
            forwarded: number_after(&words, "forwarded"),
            no_subscriber: number_after(&words, "no_subscriber"),
            refused: number_after(&words, "refused"),
        };
        assert_eq!(sum.received, sum.forwarded + sum.no_subscriber + sum.refused, "{words}");
        sum
    }
}

/// The whole number behind a word.
///
/// # Panics
/// If there is none.
pub(crate) fn number_after(text: &str, word: &str) -> u64 {
    let mut words = text.split([' ', ',', '\n']).skip_while(|&candidate| candidate != word);
    let number = words.nth(1).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no number behind {word} in {text}"))
}
