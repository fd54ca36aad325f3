//! What an id means.

use crate::limits::TAGS_MAX;
use crate::text::Field;

use super::take::{take_text, take_u8, take_u16};
use super::{Form, LEVELS_MAX, LinkError, Writer};

/// What one id means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor<'a> {
    /// Its id.
    pub id: u16,
    /// What it measures.
    pub form: Form,
    /// Bit of its level in a mask.
    pub level_number: u8,
    /// Whether its level is on only while somebody subscribes to it.
    pub on_demand: bool,
    /// Label of its level.
    pub level: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its own source, or empty for the device's.
    pub source: &'a str,
    /// Its unit, or empty.
    pub unit: &'a str,
    /// Its tags.
    pub tags: Tags<'a>,
}

impl<'a> Descriptor<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (id, body) = take_u16(body)?;
        let (code, body) = take_u8(body)?;
        let form = Form::from_code(code).ok_or(LinkError::Form { code })?;
        let (level_number, body) = take_u8(body)?;
        if usize::from(level_number) >= LEVELS_MAX {
            return Err(LinkError::Level);
        }
        let (flags, body) = take_u8(body)?;
        let (level, body) = take_text(body)?;
        let (name, body) = take_text(body)?;
        let (source, body) = take_text(body)?;
        let (unit, body) = take_text(body)?;
        let accepted = Field::Level.accepts(level)
            && Field::Name.accepts(name)
            && (source.is_empty() || Field::Source.accepts(source))
            && Field::Unit.accepts(unit);
        if !accepted {
            return Err(LinkError::Text);
        }
        let tags = Tags::parse(body)?;
        Ok(Self { id, form, level_number, on_demand: flags & 1 != 0, level, name, source, unit, tags })
    }
}

/// Tags of a descriptor, checked: at most 8, keys ascending.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tags<'a> {
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Tags<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (count, bytes) = take_u8(body)?;
        if usize::from(count) > TAGS_MAX {
            return Err(LinkError::Tags);
        }
        let mut rest = bytes;
        let mut last = "";
        for _ in 0..count {
            let ((key, value), behind) = take_tag(rest)?;
            if !Field::TagKey.accepts(key) || !Field::TagValue.accepts(value) {
                return Err(LinkError::Text);
            }
            if key <= last {
                return Err(LinkError::Tags);
            }
            (last, rest) = (key, behind);
        }
        Ok(Self { count, bytes })
    }

    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| {
            let (tag, behind) = take_tag(rest).ok()?;
            rest = behind;
            Some(tag)
        })
    }
}

fn take_tag(bytes: &[u8]) -> Result<((&str, &str), &[u8]), LinkError> {
    let (key, rest) = take_text(bytes)?;
    let (value, rest) = take_text(rest)?;
    Ok(((key, value), rest))
}

/// Writes a descriptor's body.
#[cfg(not(loom))]
pub(crate) fn write_descriptor(writer: &mut Writer, id: u16, item: &crate::device::Item) {
    writer.varint(id.into());
    writer.byte(item.form as u8);
    writer.byte(item.level_number);
    writer.byte(item.level.is_on_demand().into());
    writer.text(item.level.label());
    writer.text(item.name);
    let Some(more) = item.more else {
        // No source, no unit, no tags.
        writer.bytes(&[0; 3]);
        return;
    };
    writer.text(more.source);
    writer.text(more.unit);
    writer.byte(more.tags.len() as u8);
    for (key, value) in more.tags {
        writer.text(key);
        writer.text(value);
    }
}
