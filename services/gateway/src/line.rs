//! From the bytes of a line to frames, and what of them is missing; from frames to bytes.

use std::collections::VecDeque;

use zibrato_core::link::{Body, Frame, LinkError, Receiver, Writer, kind};

/// Bytes to a device that may wait for it to take them. They are repeated in any case.
const OUT_BYTES_MAX: usize = 256;
/// A frame counts as behind, and not as far ahead, if this many or more are between.
const HALF: u16 = 1 << 15;

/// Where a frame stands behind the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Next to it, or first of all.
    Next,
    /// So many frames later, which are lost.
    Later(u16),
    /// It is the same frame once more.
    Repeated,
    /// Before it: the device has started again, or an old frame came once more.
    Back,
}

/// A number that is not the next one, and how many it made us count as lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Jump {
    pub(crate) seq: u16,
    pub(crate) lost: u16,
}

/// What a line has brought so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LineCounts {
    pub(crate) bytes: u64,
    /// Whole frames with the right checksum that could be read.
    pub(crate) frames: u64,
    /// Pieces between two `0x00` that are no frame, by [`LinkError::index`].
    pub(crate) bad: [u64; LinkError::REASONS.len()],
    /// Frames of a kind that is not known, or that only a gateway sends.
    pub(crate) unknown: u64,
    /// Frames that came again.
    pub(crate) repeated: u64,
    /// Frames that the device sent and that did not come, by their numbers.
    pub(crate) lost: u64,
    pub(crate) bytes_to_device: u64,
}

impl LineCounts {
    pub(crate) fn bad_total(&self) -> u64 {
        self.bad.iter().sum()
    }
}

/// One device's line; it outlives the connections.
#[derive(Debug, Default)]
pub(crate) struct Line {
    receiver: Receiver,
    next: Option<u16>,
    seq_out: u16,
    out: VecDeque<u8>,
    pub(crate) counts: LineCounts,
}

impl Line {
    /// A connection came up: half a frame of the one before has no end, and nothing waits to be written.
    pub(crate) fn reconnect(&mut self) {
        self.receiver = Receiver::new();
        self.out.clear();
        // Empty frames are ignored, so this ends whatever the device has of an earlier connection.
        self.out.push_back(0);
    }

    /// Takes in bytes, and hands each frame over.
    pub(crate) fn take(&mut self, bytes: &[u8], mut frame: impl FnMut(Order, &Frame<'_>, &mut LineCounts)) {
        self.counts.bytes += bytes.len() as u64;
        for &byte in bytes {
            let parsed = match self.receiver.push(byte) {
                None => continue,
                Some(payload) => payload.and_then(Frame::parse),
            };
            match parsed {
                Ok(parsed) => {
                    self.counts.frames += 1;
                    let order = order(&mut self.next, parsed.seq, &mut self.counts);
                    if matches!(parsed.body, Body::Unknown(_) | Body::Mask(_) | Body::Ask) {
                        self.counts.unknown += 1;
                    }
                    frame(order, &parsed, &mut self.counts);
                }
                Err(error) => self.counts.bad[error.index()] += 1,
            }
        }
    }

    /// The device has started again and `seq` is the first frame of it that came.
    /// What its number made us count as lost is not.
    pub(crate) fn started_again(counts: &mut LineCounts, Jump { seq, lost }: Jump) {
        counts.lost = counts.lost.saturating_sub(lost.into()) + u64::from(seq);
    }

    /// Queues which on-demand levels are on. False if the device takes nothing.
    pub(crate) fn send_mask(&mut self, mask: u32) -> bool {
        self.send(kind::MASK, Some(mask))
    }

    /// Queues that the device is to say hello and its descriptors. False if the device takes nothing.
    pub(crate) fn send_ask(&mut self) -> bool {
        self.send(kind::ASK, None)
    }

    fn send(&mut self, kind: u8, number: Option<u32>) -> bool {
        let mut writer = Writer::numbered(self.seq_out);
        writer.start(kind);
        if let Some(number) = number {
            writer.varint(number.into());
        }
        let line = writer.finish();
        if self.out.len() + line.len() > OUT_BYTES_MAX {
            return false;
        }
        self.out.extend(line);
        self.seq_out = self.seq_out.wrapping_add(1);
        true
    }

    /// Writes what is queued, as far as `write` takes it.
    pub(crate) fn flush<E>(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, E>) -> Result<(), E> {
        while !self.out.is_empty() {
            let written = write(self.out.make_contiguous())?;
            if written == 0 {
                break;
            }
            self.out.drain(..written.min(self.out.len()));
            self.counts.bytes_to_device += written as u64;
        }
        Ok(())
    }
}

fn order(next: &mut Option<u16>, seq: u16, counts: &mut LineCounts) -> Order {
    let ahead = next.map_or(0, |next| seq.wrapping_sub(next));
    match ahead {
        u16::MAX => {
            counts.repeated += 1;
            return Order::Repeated;
        }
        0 => {}
        HALF.. => {
            *next = Some(seq.wrapping_add(1));
            return Order::Back;
        }
        lost => counts.lost += u64::from(lost),
    }
    *next = Some(seq.wrapping_add(1));
    if ahead == 0 { Order::Next } else { Order::Later(ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(seq: u16) -> Vec<u8> {
        let mut writer = Writer::numbered(seq);
        writer.start(kind::ASK);
        writer.finish().to_vec()
    }

    fn orders(line: &mut Line, bytes: &[u8]) -> Vec<(u16, Order)> {
        let mut orders = Vec::new();
        line.take(bytes, |order, frame, _| orders.push((frame.seq, order)));
        orders
    }

    #[test]
    fn what_is_missing_is_told_by_the_numbers_also_where_they_wrap() {
        let mut line = Line::default();
        let bytes: Vec<u8> = [65_533, 65_534, 1, 1, 2, 40_000].into_iter().flat_map(ask).collect();
        use Order::{Back, Later, Next, Repeated};
        let expected =
            [(65_533, Next), (65_534, Next), (1, Later(2)), (1, Repeated), (2, Next), (40_000, Back)];
        assert_eq!(orders(&mut line, &bytes), expected);
        assert_eq!((line.counts.lost, line.counts.repeated, line.counts.frames), (2, 1, 6));
        assert_eq!(orders(&mut line, &ask(40_001)), [(40_001, Next)]);
        assert_eq!(line.counts.bytes, bytes.len() as u64 + ask(0).len() as u64);
    }

    #[test]
    fn a_frame_that_was_cut_by_noise_costs_itself_alone_and_is_counted_twice_by_number_and_by_reason() {
        let mut line = Line::default();
        let mut bytes = ask(0);
        let at = bytes.len() + 2;
        bytes.extend(ask(1));
        bytes[at] ^= 0x10;
        bytes.extend(ask(2));
        assert_eq!(orders(&mut line, &bytes), [(0, Order::Next), (2, Order::Later(1))]);
        assert_eq!((line.counts.lost, line.counts.bad_total()), (1, 1));
    }

    #[test]
    fn noise_for_ever_costs_no_memory_and_the_next_frame_is_read() {
        let mut line = Line::default();
        let mut state = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(3_000_000)
        .collect();
        let frames = orders(&mut line, &noise).len() as u64;
        let pieces = line.counts.bad_total() + frames;
        // A CRC of 16 bits lets one piece in 65 536 pass, of which most say nothing that is known.
        assert!(pieces > 8_000 && frames <= 3, "{frames} of {pieces}");
        line.take(&[0], |_, _, _| ());
        assert_eq!(orders(&mut line, &ask(7)).len(), 1);
    }

    #[test]
    fn what_a_device_does_not_take_waits_up_to_a_limit_and_goes_out_in_order() {
        let mut line = Line::default();
        let mut sent = 0;
        while line.send_mask(5) {
            sent += 1;
        }
        assert!(sent > 20 && !line.send_ask());
        let mut written = Vec::new();
        let mut once = |bytes: &[u8]| -> Result<usize, ()> {
            let taken = if written.len() < 10 { bytes.len().min(7) } else { 0 };
            written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        };
        line.flush(&mut once).unwrap();
        assert_eq!(written.len(), 14);
        assert!(line.send_ask());
        line.flush(|bytes| {
            written.extend_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        })
        .unwrap();
        let mut back = Line::default();
        assert_eq!(orders(&mut back, &written).len(), sent + 1);
        assert_eq!((back.counts.lost, back.counts.bad_total()), (0, 0));
        assert_eq!(line.counts.bytes_to_device, written.len() as u64);
    }
}
