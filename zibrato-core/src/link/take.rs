//! Taking fields off the front of a body.

use super::LinkError;

pub(super) fn take_u8(bytes: &[u8]) -> Result<(u8, &[u8]), LinkError> {
    bytes.split_first().map(|(&byte, rest)| (byte, rest)).ok_or(LinkError::Short)
}

pub(super) fn take_varint(bytes: &[u8]) -> Result<(u64, &[u8]), LinkError> {
    crate::frame::take_varint(bytes).ok_or(LinkError::Number)
}

pub(super) fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), LinkError> {
    let (value, rest) = take_varint(bytes)?;
    Ok((u32::try_from(value).map_err(|_| LinkError::Number)?, rest))
}

pub(super) fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), LinkError> {
    let (value, rest) = take_varint(bytes)?;
    Ok((u16::try_from(value).map_err(|_| LinkError::Number)?, rest))
}

/// A zig-zag varint.
pub(super) fn take_i32(bytes: &[u8]) -> Result<(i32, &[u8]), LinkError> {
    let (value, rest) = take_u32(bytes)?;
    Ok(((value >> 1).cast_signed() ^ -((value & 1).cast_signed()), rest))
}

pub(super) fn take_f32(bytes: &[u8]) -> Result<(f32, &[u8]), LinkError> {
    let (bytes, rest) = bytes.split_first_chunk::<4>().ok_or(LinkError::Short)?;
    Ok((f32::from_le_bytes(*bytes), rest))
}

pub(super) fn take_text(bytes: &[u8]) -> Result<(&str, &[u8]), LinkError> {
    let (length, rest) = take_varint(bytes)?;
    let length =
        usize::try_from(length).ok().filter(|&length| length <= rest.len()).ok_or(LinkError::Short)?;
    let (text, rest) = rest.split_at(length);
    Ok((core::str::from_utf8(text).map_err(|_| LinkError::Text)?, rest))
}
