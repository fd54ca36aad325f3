//! The identity of a batch.

use std::fmt::Write as _;

/// 128 random bits in lower-case hex.
///
/// # Errors
///
/// The system's error if it has no random bits.
pub(crate) fn batch_id() -> Result<String, getrandom::Error> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits)?;
    let mut text = String::with_capacity(32);
    for byte in bits {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let (one, other) = (batch_id().unwrap(), batch_id().unwrap());
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(one, other);
    }
}
