//! Pages of kept frames, written as the messages of a replay.

use std::time::Instant;

use zibrato_core::frame::{Replay, ReplayMessage, set_held_ms};

use crate::PAGE_FRAMES_MAX;
use crate::keep::Keep;

/// Answers a request: the frames of its page, each with the time it was held, then the trailer.
/// Every message starts with `topic`, which is the request itself, so that only who asked gets it.
///
/// Returns the number of frames sent.
///
/// # Errors
/// The first error of `send`; the rest of the page is then not sent, and its asker misses the trailer.
pub(crate) fn answer<E>(
    keep: &Keep,
    topic: &[u8],
    request: &Replay<'_>,
    now: Instant,
    mut send: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u32, E> {
    let page = keep.page(request.level, request.from, PAGE_FRAMES_MAX);
    let mut message = Vec::new();
    let mut count = 0;
    for frame in &page.frames {
        message.clear();
        message.extend_from_slice(topic);
        message.push(ReplayMessage::FRAME_MARK);
        let frame_at = message.len();
        message.extend_from_slice(&frame.untopiced);
        let held = now.saturating_duration_since(frame.arrived).as_millis();
        set_held_ms(&mut message[frame_at..], u32::try_from(held).unwrap_or(u32::MAX));
        send(&message)?;
        count += 1;
    }
    message.clear();
    message.extend_from_slice(topic);
    message.extend_from_slice(&ReplayMessage::trailer(count, page.next, page.total));
    send(&message)?;
    Ok(count)
}
