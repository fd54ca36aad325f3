//! Tells series apart whose source or tags had to be changed for a store.

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The FNV-1a hash (32 bits) of `source NUL key NUL value NUL ...`.
pub(super) fn series_hash(source: &str, tags: &[(String, String)]) -> u32 {
    let mut hash = FNV_OFFSET;
    let mut feed = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME);
        }
    };
    feed(source);
    for (key, value) in tags {
        feed(key);
        feed(value);
    }
    hash
}
