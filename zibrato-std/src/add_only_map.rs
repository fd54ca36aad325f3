//! A map that is only ever added to, so that looking up takes no lock.
//!
//! A hash trie: each node has four children, and two bits of the hash choose the one to go to. An empty place is
//! filled once. With 100 000 entries a look-up goes past some nine nodes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Values by key; the hash is the caller's, and its high bits are used first.
pub(crate) struct AddOnlyMap<K, V> {
    root: Place<K, V>,
    len: AtomicUsize,
}

type Place<K, V> = OnceLock<Box<Node<K, V>>>;

struct Node<K, V> {
    hash: u64,
    key: K,
    value: V,
    children: [Place<K, V>; 4],
}

impl<K, V> AddOnlyMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self { root: OnceLock::new(), len: AtomicUsize::new(0) }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// The value of the key with this hash that `is_it` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<&V> {
        self.place(hash, is_it).get().map(|node| &node.value)
    }

    /// Adds an entry, unless another thread was first: then returns that one's.
    pub(crate) fn add(&self, hash: u64, key: K, value: V) -> &V
    where
        K: PartialEq,
    {
        let mut node = Box::new(Node { hash, key, value, children: [const { OnceLock::new() }; 4] });
        let place = loop {
            let place = self.place(hash, |known| *known == node.key);
            if place.get().is_some() {
                break place;
            }
            // `set` runs no code of anybody else: a recording allocator may come here again, but not inside of it.
            match place.set(node) {
                Ok(()) => {
                    self.len.fetch_add(1, Relaxed);
                    break place;
                }
                Err(ours) => node = ours,
            }
        };
        match place.get() {
            Some(node) => &node.value,
            None => unreachable!("the place is filled"),
        }
    }

    /// Where the key is, or where it would be.
    #[inline]
    fn place(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> &Place<K, V> {
        let (mut place, mut bits) = (&self.root, hash);
        while let Some(node) = place.get()
            && !(node.hash == hash && is_it(&node.key))
        {
            place = &node.children[(bits >> 62) as usize];
            bits <<= 2;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_first_is_found_whatever_the_hashes_are() {
        for spread in [0, 1, 0x9e37_79b9_7f4a_7c15_u64] {
            let map = AddOnlyMap::new();
            let find = |key: u64| map.find(key.wrapping_mul(spread), |known| *known == key).copied();
            for key in 0..500_u64 {
                assert_eq!(find(key), None);
                assert_eq!(*map.add(key.wrapping_mul(spread), key, key + 1), key + 1);
                assert_eq!(*map.add(key.wrapping_mul(spread), key, 0), key + 1);
            }
            assert!((0..500).all(|key| find(key) == Some(key + 1)));
            assert_eq!(map.len(), 500);
        }
    }

    #[test]
    fn entries_with_good_hashes_are_few_steps_away() {
        fn depth<K, V>(place: &Place<K, V>) -> usize {
            place.get().map_or(0, |node| 1 + node.children.iter().map(depth).max().unwrap_or(0))
        }
        let map = AddOnlyMap::new();
        for key in 0..10_000_u64 {
            map.add(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key, ());
        }
        // log4 of the number is 6.6.
        assert!(depth(&map.root) <= 14, "{}", depth(&map.root));
    }

    #[test]
    fn threads_that_add_at_one_place_agree_on_one_value_and_lose_none() {
        const THREADS: usize = 2;
        const ROUNDS: usize = 2_000;
        let (map, arrived) = (AddOnlyMap::new(), AtomicUsize::new(0));
        let add_all = |thread: usize| {
            let mut same = Vec::new();
            for round in 0..ROUNDS {
                let hash = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                arrived.fetch_add(1, Relaxed);
                // No barrier, so that they start within nanoseconds of each other where there are cores for both.
                while arrived.load(Relaxed) < (round + 1) * THREADS {
                    std::thread::yield_now();
                }
                assert_eq!(*map.add(hash, (round, thread), thread), thread);
                same.push(*map.add(hash, (round, THREADS), thread));
            }
            same
        };
        let add_all = &add_all;
        let seen: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || add_all(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|of_thread| *of_thread == seen[0]));
        assert_eq!(map.len(), ROUNDS * (THREADS + 1));
    }
}
