//! What is kept of one publisher on one level.

use std::collections::BTreeMap;
use std::time::Instant;

use zibrato_core::frame::Header;

/// What a kept frame costs beside its bytes, in bytes, so that many small ones are bounded too.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 64;

/// One kept frame.
#[derive(Debug)]
pub(crate) struct KeptFrame {
    /// Header and body.
    pub(crate) untopiced: Box<[u8]>,
    /// When the broker received it.
    pub(crate) arrived: Instant,
}

impl KeptFrame {
    fn bytes(&self) -> usize {
        self.untopiced.len() + FRAME_OVERHEAD_BYTES
    }
}

/// The last complete key frame and what came after it.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// Parts of the last complete key frame, in order; empty before there is one.
    key: Vec<KeptFrame>,
    key_name: Option<Name>,
    /// Every frame after it, by `seq`: deltas, and the parts of `incoming`.
    later: BTreeMap<u64, KeptFrame>,
    incoming: Option<Incoming>,
    bytes: usize,
}

/// Which key frame: the `seq` of its first and last part, and whether it is an end frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    first: u64,
    last: u64,
    is_end: bool,
}

/// A key frame that is not complete yet.
#[derive(Debug)]
struct Incoming {
    name: Name,
    parts_missing: u16,
}

impl Publisher {
    /// Keeps a frame that is no heartbeat, unless it is old or kept already. Returns the name of an
    /// end frame that is to be acknowledged.
    pub(super) fn insert(&mut self, header: &Header, untopiced: &[u8], now: Instant) -> Option<u64> {
        let is_key = header.flags.key || header.flags.end;
        if !is_key {
            if !self.is_ended() {
                self.store(header.seq, untopiced, now);
            }
            return None;
        }
        let first = header.frame_seq();
        let last = first.saturating_add(u64::from(header.of) - 1);
        let name = Name { first, last, is_end: header.flags.end };
        if self.key_name == Some(name) {
            // A repetition of what is complete: its publisher has not heard of the acknowledgement.
            return (name.is_end && header.seq == last).then_some(first);
        }
        if first <= self.key_last() || (self.is_ended() && !name.is_end) {
            return None;
        }
        match &self.incoming {
            Some(incoming) if incoming.name == name => {}
            // Older than the one that is coming in, or a contradiction to it.
            Some(incoming) if first <= incoming.name.first => return None,
            _ => self.replace_incoming(name, header.of),
        }
        if !self.store(header.seq, untopiced, now) {
            return None;
        }
        let incoming = self.incoming.as_mut()?;
        incoming.parts_missing = incoming.parts_missing.saturating_sub(1);
        if incoming.parts_missing > 0 {
            return None;
        }
        self.complete(name);
        name.is_end.then_some(first)
    }

    /// Whether its end frame is complete.
    pub(super) fn is_ended(&self) -> bool {
        self.key_name.is_some_and(|name| name.is_end)
    }

    /// All frames, in the order of `seq`.
    pub(super) fn frames(&self) -> impl Iterator<Item = &KeptFrame> {
        self.key.iter().chain(self.later.values())
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.key.len() + self.later.len()
    }

    /// Their bytes, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn key_last(&self) -> u64 {
        self.key_name.map_or(0, |name| name.last)
    }

    /// Keeps a frame behind the key frame; `false` if it is older than that or kept already.
    fn store(&mut self, seq: u64, untopiced: &[u8], now: Instant) -> bool {
        if seq <= self.key_last() || self.later.contains_key(&seq) {
            return false;
        }
        let frame = KeptFrame { untopiced: untopiced.into(), arrived: now };
        self.bytes += frame.bytes();
        self.later.insert(seq, frame);
        true
    }

    /// Begins a newer key frame. The parts of one that never became complete go: all that they say
    /// is in the newer one too.
    fn replace_incoming(&mut self, name: Name, of: u16) {
        if let Some(old) = self.incoming.replace(Incoming { name, parts_missing: of }) {
            let behind = self.later.split_off(&old.name.first);
            for (seq, frame) in behind {
                if seq > old.name.last {
                    self.later.insert(seq, frame);
                } else {
                    self.bytes -= frame.bytes();
                }
            }
        }
    }

    /// Makes the incoming key frame the one that is kept; nothing before it is needed any more.
    fn complete(&mut self, name: Name) {
        let mut parts = self.later.split_off(&name.first);
        let behind = name.last.checked_add(1).map_or_else(BTreeMap::new, |next| parts.split_off(&next));
        // The end frame says everything; nothing follows it.
        let behind = if name.is_end { BTreeMap::new() } else { behind };
        self.key = parts.into_values().collect();
        self.later = behind;
        (self.key_name, self.incoming) = (Some(name), None);
        self.bytes = self.frames().map(KeptFrame::bytes).sum();
    }
}
