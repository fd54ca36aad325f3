//! The frozen form of a body, and how it becomes packets.
//!
//! A *unit* is what must not be torn apart: a line, or the two lines of a negative gauge, with a carriage return
//! between them. A unit ends with a newline, and a point, which is one unit or more, with an empty line. No other
//! control character is in a line. Units are packed when they are sent, so that a changed `--mtu` holds for what the
//! spool has too.

const UNIT_END: u8 = b'\n';
const POINT_END: &[u8] = b"\n\n";
/// Between the lines of a unit; a newline on the wire.
pub(super) const LINE_END: char = '\r';

/// Appends a point. It has at least one unit, and none of them is empty.
pub(super) fn append_point(bytes: &mut Vec<u8>, units: &[String]) {
    for unit in units {
        bytes.extend_from_slice(unit.as_bytes());
        bytes.push(UNIT_END);
    }
    bytes.push(UNIT_END);
}

/// How many bytes [`append_point`] appends.
pub(super) fn point_bytes(units: &[String]) -> usize {
    units.iter().map(|unit| unit.len() + 1).sum::<usize>() + 1
}

/// The points of a body; `None` if it is no body.
pub(super) fn points(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut points = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(POINT_END.len()).position(|window| window == POINT_END)?;
        if end == 0 {
            return None;
        }
        points.push(&rest[..end]);
        rest = &rest[end + POINT_END.len()..];
    }
    if points.is_empty() { None } else { Some(points) }
}

/// The units of a point.
pub(super) fn units(point: &[u8]) -> impl Iterator<Item = &[u8]> {
    point.split(|byte| *byte == UNIT_END)
}

/// The units of all points; `None` if it is no body.
pub(super) fn all_units(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    Some(points(bytes)?.into_iter().flat_map(units).collect())
}

/// The body with only those points whose flag is set.
pub(super) fn select(bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
    let points = points(bytes)?;
    if points.len() != keep.len() {
        return None;
    }
    let kept = points.iter().zip(keep).filter(|(_, keep)| **keep);
    Some(kept.flat_map(|(point, _)| [point, POINT_END].concat()).collect())
}

/// The next packet, of at most `mtu` bytes, and how many of the units it holds: as many as fit, and at least one.
/// Its lines are separated by newlines.
pub(super) fn packet(units: &[&[u8]], mtu: usize) -> (Vec<u8>, usize) {
    let mut packet = Vec::with_capacity(mtu.min(1 << 16));
    let mut packed = 0;
    for unit in units {
        if packed > 0 {
            if packet.len() + 1 + unit.len() > mtu {
                break;
            }
            packet.push(b'\n');
        }
        append_wire(&mut packet, unit);
        packed += 1;
    }
    (packet, packed)
}

/// All units as a stream, each line ended by a newline. A unit takes one byte more here than in the body.
pub(super) fn stream(units: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(units.iter().map(|unit| unit.len() + 1).sum());
    for unit in units {
        append_wire(&mut text, unit);
        text.push(b'\n');
    }
    text
}

fn append_wire(bytes: &mut Vec<u8>, unit: &[u8]) {
    bytes.extend(unit.iter().map(|byte| if *byte == LINE_END as u8 { b'\n' } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(points: &[&[&str]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for point in points {
            let units: Vec<_> = point.iter().map(|unit| (*unit).to_owned()).collect();
            let before = bytes.len();
            append_point(&mut bytes, &units);
            assert_eq!(bytes.len() - before, point_bytes(&units));
        }
        bytes
    }

    #[test]
    fn a_body_is_read_back_and_anything_else_is_refused() {
        let bytes = body(&[&["a:1|c"], &["b:0|g\rb:-1|g", "c:2|c"]]);
        assert_eq!(bytes, b"a:1|c\n\nb:0|g\rb:-1|g\nc:2|c\n\n");
        assert_eq!(points(&bytes).unwrap().len(), 2);
        assert_eq!(all_units(&bytes).unwrap(), [&b"a:1|c"[..], b"b:0|g\rb:-1|g", b"c:2|c"]);
        for bad in [&b""[..], b"a:1|c", b"a:1|c\n", b"\n\n", b"a\n\n\n\n", b"a\n\nb"] {
            assert_eq!(points(bad), None, "{bad:?}");
        }
        for end in 1..bytes.len() {
            let whole = &bytes[..end];
            assert!(points(whole).is_none_or(|points| points.len() == 1 && whole == b"a:1|c\n\n"));
        }
    }

    #[test]
    fn points_are_cut_out_whole() {
        let bytes = body(&[&["a:1|c"], &["b:0|g\rb:-1|g", "c:2|c"], &["d:3|c"]]);
        assert_eq!(select(&bytes, &[true, false, true]).unwrap(), body(&[&["a:1|c"], &["d:3|c"]]));
        assert_eq!(select(&bytes, &[false, true, false]).unwrap(), body(&[&["b:0|g\rb:-1|g", "c:2|c"]]));
        assert_eq!(select(&bytes, &[true]), None);
        assert_eq!(select(b"nonsense", &[true]), None);
    }

    #[test]
    fn packets_are_filled_to_the_byte_and_tear_no_unit() {
        let units = [&b"a:1|c"[..], b"b:0|g\rb:-1|g", b"c:2|c"];
        let pack = |mtu| {
            let (mut rest, mut packets) = (&units[..], Vec::new());
            while !rest.is_empty() {
                let (packet, packed) = packet(rest, mtu);
                packets.push(String::from_utf8(packet).unwrap());
                rest = &rest[packed..];
            }
            packets
        };
        assert_eq!(pack(24), ["a:1|c\nb:0|g\nb:-1|g\nc:2|c"]);
        assert_eq!(pack(23), ["a:1|c\nb:0|g\nb:-1|g", "c:2|c"]);
        assert_eq!(pack(18), ["a:1|c\nb:0|g\nb:-1|g", "c:2|c"]);
        assert_eq!(pack(17), ["a:1|c", "b:0|g\nb:-1|g", "c:2|c"]);
        assert_eq!(pack(1), ["a:1|c", "b:0|g\nb:-1|g", "c:2|c"]);
        assert_eq!(stream(&units), b"a:1|c\nb:0|g\nb:-1|g\nc:2|c\n");
    }
}
