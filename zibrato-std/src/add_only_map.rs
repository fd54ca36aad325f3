//! A map that is only ever added to, so that looking up takes no lock.
//!
//! A hash trie: each node has four children, and two bits of the hash choose the one to go to. An empty
//! place is filled once. With 100 000 entries a look-up goes past some nine nodes.

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

    /// Adds an entry if the key has none. What another thread, or `make` itself, adds meanwhile for the key
    /// counts.
    pub(crate) fn add(&self, hash: u64, key: K, make: impl FnOnce() -> V) -> &V
    where
        K: PartialEq,
    {
        let mut place = self.place(hash, |known| *known == key);
        if place.get().is_none() {
            let children = [const { OnceLock::new() }; 4];
            let mut node = Box::new(Node { hash, value: make(), key, children });
            // `set` runs no code of anybody else: a recording allocator may come here again, but not inside
            // of it.
            loop {
                match place.set(node) {
                    Ok(()) => {
                        self.len.fetch_add(1, Relaxed);
                        break;
                    }
                    // Taken meanwhile, maybe by the same key.
                    Err(ours) => node = ours,
                }
                place = self.place(hash, |known| *known == node.key);
                if place.get().is_some() {
                    break;
                }
            }
        }
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
                assert_eq!(*map.add(key.wrapping_mul(spread), key, || key + 1), key + 1);
                assert_eq!(*map.add(key.wrapping_mul(spread), key, || 0), key + 1);
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
            map.add(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key, || ());
        }
        // log4 of the number is 6.6.
        assert!(depth(&map.root) <= 14, "{}", depth(&map.root));
    }

    #[test]
    fn who_finds_its_place_taken_meanwhile_goes_on_and_the_first_of_a_key_counts() {
        let map = AddOnlyMap::new();
        let find = |key| map.find(0, |known| *known == key).copied();
        let value = map.add(0, 'a', || {
            map.add(0, 'b', || 2);
            1
        });
        assert_eq!((*value, find('a'), find('b')), (1, Some(1), Some(2)));
        let value = map.add(0, 'c', || *map.add(0, 'c', || 3) + 1);
        assert_eq!((*value, find('c'), map.len()), (3, Some(3), 3));
    }

    #[test]
    fn threads_that_add_the_same_keys_agree_on_one_value() {
        const KEYS: u64 = 10_000;
        let map = AddOnlyMap::new();
        let add_all = |thread: usize| {
            (0..KEYS).map(|key| *map.add(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key, || thread)).collect()
        };
        let add_all = &add_all;
        let seen: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || add_all(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|of_thread| *of_thread == seen[0]));
        assert_eq!(map.len() as u64, KEYS);
    }
}
