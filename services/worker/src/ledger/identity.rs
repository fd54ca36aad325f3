//! A series as one run of bytes: cheap to hash, to share between publishers and to keep in a row.
//!
//! `level 0x00 kind name 0x00 source 0x00 unit (0x00 key 0x00 value)*`. No text of a frame may have
//! control characters, so the zeros separate without ambiguity.

use std::sync::Arc;

use hashbrown::HashSet;
use zibrato_core::frame::Entry;
use zibrato_core::kind::Kind;

use crate::measurement::SeriesKey;

/// Replaces `out` by the identity of a native series.
pub(super) fn write_entry(out: &mut Vec<u8>, level: &str, source: &str, entry: &Entry<'_>) {
    let source = if entry.source.is_empty() { source } else { entry.source };
    write(out, level, entry.state.kind(), entry.name, source);
    push(out, entry.unit);
    for (key, value) in &entry.tags {
        push(out, key);
        push(out, value);
    }
}

/// Replaces `out` by the identity of a legacy series, which has neither unit nor tags.
pub(super) fn write_legacy(out: &mut Vec<u8>, level: &str, kind: Kind, name: &str, source: &str) {
    write(out, level, kind, name, source);
    push(out, "");
}

fn write(out: &mut Vec<u8>, level: &str, kind: Kind, name: &str, source: &str) {
    out.clear();
    out.extend_from_slice(level.as_bytes());
    out.push(0);
    out.push(kind.code());
    out.extend_from_slice(name.as_bytes());
    push(out, source);
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.push(0);
    out.extend_from_slice(text.as_bytes());
}

/// The identity of a series.
pub(crate) fn of(series: &SeriesKey) -> Vec<u8> {
    let texts = [&*series.level, &series.name, &series.source, &series.unit];
    // With the kind and what separates them. Few series have tags.
    let mut out = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    write(&mut out, &series.level, series.kind, &series.name, &series.source);
    push(&mut out, &series.unit);
    for (key, value) in &series.tags {
        push(&mut out, key);
        push(&mut out, value);
    }
    out
}

/// The series behind an identity; `None` for bytes that are none.
pub(crate) fn read(identity: &[u8]) -> Option<SeriesKey> {
    Reader::default().read(identity)
}

/// Reads identities; what it has read share levels and sources.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    texts: HashSet<Arc<str>>,
}

impl Reader {
    /// As [`read`].
    pub(crate) fn read(&mut self, identity: &[u8]) -> Option<SeriesKey> {
        let level_bytes = identity.iter().position(|&byte| byte == 0)?;
        let level = std::str::from_utf8(&identity[..level_bytes]).ok()?;
        let (&code, rest) = identity[level_bytes + 1..].split_first()?;
        let kind = Kind::from_code(code)?;
        let mut fields = std::str::from_utf8(rest).ok()?.split('\0');
        let (name, source, unit) = (fields.next()?, fields.next()?, fields.next()?);
        let mut tags = Vec::new();
        while let Some(key) = fields.next() {
            tags.push((key.to_owned(), fields.next()?.to_owned()));
        }
        let (level, source) = (self.shared(level), self.shared(source));
        Some(SeriesKey { level, kind, name: name.to_owned(), source, unit: unit.to_owned(), tags })
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        Arc::clone(self.texts.get_or_insert_with(text, |text| text.into()))
    }
}

/// Name and source of an identity; `None` for bytes that are none.
pub(crate) fn name_and_source(identity: &[u8]) -> Option<(&str, &str)> {
    let level_bytes = identity.iter().position(|&byte| byte == 0)?;
    let mut fields = identity.get(level_bytes + 2..)?.split(|&byte| byte == 0).map(str::from_utf8);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// The kind of an identity that [`read`] accepts.
pub(super) fn kind(identity: &[u8]) -> Option<Kind> {
    let level_bytes = identity.iter().position(|&byte| byte == 0)?;
    Kind::from_code(*identity.get(level_bytes + 1)?)
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::State;

    use super::*;

    #[test]
    fn an_identity_comes_back_as_its_series() {
        let mut entry = Entry::new("web.requests", State::Counter { sum: 1 });
        entry.tags.push(("route", "/")).unwrap();
        entry.tags.push(("verb", "GET")).unwrap();
        let mut bytes = Vec::new();
        write_entry(&mut bytes, "info", "deathstar", &entry);
        let key = read(&bytes).unwrap();
        assert_eq!(
            (&key.level[..], &key.name[..], &key.source[..], &key.unit[..]),
            ("info", "web.requests", "deathstar", "")
        );
        assert_eq!(key.tags, [("route".into(), "/".into()), ("verb".into(), "GET".into())]);
        assert_eq!(kind(&bytes), Some(Kind::Counter));
        assert_eq!(of(&key), bytes);
        entry.source = "own";
        write_entry(&mut bytes, "info", "deathstar", &entry);
        assert_eq!(&*read(&bytes).unwrap().source, "own");
        write_legacy(&mut bytes, "info", Kind::Timer, "t", "s");
        assert_eq!(read(&bytes).unwrap().kind, Kind::Timer);
        let mut reader = Reader::default();
        let [one, other] = [(); 2].map(|()| reader.read(&bytes).unwrap());
        assert!(Arc::ptr_eq(&one.source, &other.source) && Arc::ptr_eq(&one.level, &other.level));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
    }
}
