//! Who a boot of a device is as a publisher.

use zibrato_core::frame::PublisherId;

const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The publisher id of a boot: FNV-1a of 128 bits over `zibrato-gateway 0x00 site 0x00 source 0x00 boot`, boot as
/// u64 in little-endian, written in big-endian.
///
/// A gateway that is restarted comes to the same id, and so goes on as the same publisher. Nobody chooses these
/// texts to make two of them meet, so that the hash need not resist that.
pub(crate) fn publisher_id(site: &str, source: &str, boot: u64) -> PublisherId {
    let parts = [b"zibrato-gateway\0", site.as_bytes(), b"\0", source.as_bytes(), b"\0", &boot.to_le_bytes()];
    let hash =
        parts.into_iter().flatten().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    PublisherId(hash.to_be_bytes())
}

/// An id for a device that cannot tell its boots apart.
pub(crate) fn random_id() -> Result<PublisherId, getrandom::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(PublisherId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_the_document_says_and_differs_in_each_part() {
        assert_eq!(publisher_id("lab", "motor", 7).to_string(), "bf2b84422fca9cb675e3ca5c94d6c48e");
        let ids = [
            publisher_id("lab", "motor", 7),
            publisher_id("lab", "motor", 8),
            publisher_id("lab", "motor2", 7),
            publisher_id("lab2", "motor", 7),
            publisher_id("labm", "otor", 7),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id));
        }
    }
}
