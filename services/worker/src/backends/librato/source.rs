//! Tags for a receiver that has none: they become part of the source.

use std::borrow::Cow;
use std::fmt::Write as _;

use zibrato_core::limits::SOURCE_BYTES_MAX;
use zibrato_core::text::is_name_byte;

use crate::backends::series_hash::series_hash;

/// Bytes of `:` and eight hexadecimal digits.
const HASH_BYTES: usize = 9;
/// Where a source is cut to make room for the hash.
const CUT_BYTES: usize = SOURCE_BYTES_MAX - HASH_BYTES;

/// The source with its tags appended as `:key.value`, at most 255 bytes of `A-Za-z0-9.:_-`.
///
/// The plain form is used only where it can be read back: if a value holds a byte that Librato does not
/// accept, or a key or value contains `:` or `.`, or the result is too long, bytes not accepted become `_`,
/// the text is cut to 246 bytes, and `:` and the FNV-1a hash (32 bits, eight hexadecimal digits) of
/// `source NUL key NUL value NUL ...` are appended. So different tags stay different sources but for
/// clashes of the hash.
pub fn tagged_source<'a>(source: &'a str, tags: &[(String, String)]) -> Cow<'a, str> {
    if tags.is_empty() {
        return Cow::Borrowed(source);
    }
    let mut text = source.to_owned();
    let mut is_plain = true;
    for (key, value) in tags {
        text.push(':');
        is_plain &= append(&mut text, key);
        text.push('.');
        is_plain &= append(&mut text, value);
    }
    if !is_plain || text.len() > SOURCE_BYTES_MAX {
        // All that was appended is ASCII; a source that is not would be refused anyway.
        let mut cut = CUT_BYTES.min(text.len());
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
        // Writing to a String cannot fail.
        let _ = write!(text, ":{:08x}", series_hash(source, tags));
    }
    Cow::Owned(text)
}

/// Appends a part; false if it was changed or holds a separator.
fn append(text: &mut String, part: &str) -> bool {
    let mut is_plain = true;
    for char in part.chars() {
        let accepted = u8::try_from(char).is_ok_and(is_name_byte);
        is_plain &= accepted && char != ':' && char != '.';
        text.push(if accepted { char } else { '_' });
    }
    is_plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(source: &str, tags: &[(&str, &str)]) -> String {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        tagged_source(source, &tags).into_owned()
    }

    #[test]
    fn plain_tags_are_appended_and_no_tags_change_nothing() {
        assert_eq!(tagged("web", &[]), "web");
        assert_eq!(tagged("web", &[("az", "e_1"), ("route", "home-page")]), "web:az.e_1:route.home-page");
    }

    #[test]
    fn the_hash_is_fnv_1a_over_the_texts_and_a_nul_after_each() {
        // FNV-1a of "web\0a\0x/y\0", computed apart from this code.
        assert_eq!(tagged("web", &[("a", "x/y")]), "web:a.x_y:5cb2964a");
        assert_eq!(tagged("web", &[("a", "x.y")]), "web:a.x.y:2a2024f1");
    }

    #[test]
    fn tags_that_would_read_the_same_become_different_sources() {
        let groups =
            [[("a", "x/y"), ("a", "x_y")], [("a", "b:c.d"), ("a", "b-c.d")], [("a", "x y"), ("a", "x?y")]];
        for [left, right] in groups {
            assert_ne!(tagged("web", &[left]), tagged("web", &[right]));
        }
        assert_ne!(tagged("web", &[("a", "b"), ("c", "d")]), tagged("web", &[("a", "b:c.d")]));
        assert_ne!(tagged("web", &[("a.b", "c")]), tagged("web", &[("a", "b.c")]));
    }

    #[test]
    fn a_result_that_is_too_long_is_cut_to_exactly_the_limit() {
        let source = "s".repeat(251);
        assert_eq!(tagged(&source, &[("a", "b")]).len(), 255);
        assert!(tagged(&source, &[("a", "b")]).ends_with(":a.b"));
        let (left, right) = (tagged(&source, &[("a", "bc")]), tagged(&source, &[("a", "bd")]));
        assert_eq!((left.len(), right.len()), (255, 255));
        assert_ne!(left, right);
        assert_eq!(&left[..246], &source[..246]);
        let long = tagged("web", &[("k", &"ü".repeat(200)), ("l", &"x".repeat(255))]);
        assert!(long.len() <= 255 && long.bytes().all(is_name_byte), "{long}");
    }
}
