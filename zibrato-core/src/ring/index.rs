//! Index arithmetic of the ring: pure, so that tests can go through all of it.
//!
//! An index is a count of bytes, [`STEP`] for each record, so that the offset of a slot needs no shift.

use crate::record::Record;

/// What an index grows by with each record.
pub(super) const STEP: usize = size_of::<Record>();

// Else a ring's bytes would not divide those of all indices, and slots would jump where indices wrap.
const _: () = assert!(STEP.is_power_of_two());

/// Records between `head` and `tail`.
#[inline(always)]
pub(super) const fn used(head: usize, tail: usize) -> usize {
    tail.wrapping_sub(head) / STEP
}

/// The slot of an index in a ring of `N`.
#[inline(always)]
pub(super) const fn slot<const N: usize>(index: usize) -> usize {
    index % (N * STEP) / STEP
}

/// The index behind `index`.
#[inline(always)]
pub(super) const fn next(index: usize) -> usize {
    index.wrapping_add(STEP)
}

/// The index up to which the producer may fill while the consumer is at `head`.
#[inline(always)]
pub(super) const fn limit<const N: usize>(head: usize) -> usize {
    head.wrapping_add(N * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pairs of indices that a ring of `N` can have, and more, from starts on both sides of the wrap.
    fn check_all_states<const N: usize>() {
        let at = |records: usize| records.wrapping_mul(STEP);
        let starts = 4 * N;
        for start in (0..=starts).chain((0..=starts).map(|below| 0usize.wrapping_sub(below))).map(at) {
            assert_eq!(next(start), start.wrapping_add(at(1)));
            for pushed in 0..=2 * N {
                let tail = start.wrapping_add(at(pushed));
                assert!(slot::<N>(tail) < N);
                assert_eq!(slot::<N>(next(tail)), (slot::<N>(tail) + 1) % N, "slots follow each other");
                for drained in 0..=pushed {
                    let head = start.wrapping_add(at(drained));
                    let (free, held) = (limit::<N>(head).wrapping_sub(tail), pushed - drained);
                    assert_eq!(used(head, tail), held);
                    assert_eq!(free <= at(N), held <= N, "{start} {pushed} {drained}");
                    assert_eq!(free == 0, held == N, "the limit is reached when every slot is in use");
                    // Records that the ring holds at once lie in slots of their own.
                    assert_eq!(slot::<N>(head) == slot::<N>(tail), held % N == 0);
                }
                // Indices that nobody made: too far apart, which the drain must see.
                let wild = start.wrapping_sub(at(1));
                assert!(used(start, wild) > N, "a tail behind its head");
            }
            let slots: [usize; N] = core::array::from_fn(|i| slot::<N>(start.wrapping_add(at(i))));
            let mut sorted = slots;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..N), "consecutive indices fill every slot once");
        }
    }

    #[test]
    fn every_reachable_state_of_a_small_ring_keeps_its_indices_in_range() {
        check_all_states::<1>();
        check_all_states::<2>();
        check_all_states::<4>();
        check_all_states::<8>();
    }
}
