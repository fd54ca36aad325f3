//! Index arithmetic of the ring: pure, so that tests can go through all of it.
//!
//! An index is a count of bytes, [`STEP`] for each record, so that the offset of a slot needs no shift.

use crate::record::Record;

/// What an index grows by with each record.
pub(super) const STEP: usize = size_of::<Record>();

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

    #[test]
    fn every_reachable_state_of_a_small_ring_keeps_its_indices_in_range() {
        const N: usize = 4;
        let at = |records: usize| records.wrapping_mul(STEP);
        for start in [0, 1, usize::MAX - 6, usize::MAX - 1, usize::MAX].map(at) {
            assert_eq!(next(start), start.wrapping_add(at(1)));
            for pushed in 0..=2 * N {
                for drained in 0..=pushed {
                    let (head, tail) = (start.wrapping_add(at(drained)), start.wrapping_add(at(pushed)));
                    let free = limit::<N>(head).wrapping_sub(tail);
                    assert_eq!(used(head, tail), pushed - drained);
                    assert_eq!(free <= at(N), pushed - drained <= N, "{start} {pushed} {drained}");
                    assert!(slot::<N>(tail) < N);
                }
            }
            let slots: [usize; N] = core::array::from_fn(|i| slot::<N>(start.wrapping_add(at(i))));
            let mut sorted = slots;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "consecutive indices fill every slot once");
        }
    }
}
