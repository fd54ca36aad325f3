//! Bodies as they are frozen: a line that says how many numbers each point has, which is not sent, and what is sent.

use std::borrow::Cow;
use std::fmt::Write as _;

use clap::ValueEnum;

use super::pickle;

/// Which of carbon's protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Lines of `path value time`.
    Plaintext,
    /// A list in Python's pickle protocol 2, with its length before it.
    Pickle,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Plaintext, Self::Pickle];

    /// Its name, as on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Pickle => "pickle",
        }
    }
}

/// A number as carbon gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    pub path: String,
    pub time_s: u64,
    pub value: f64,
}

/// Appends a number to what [`seal`] makes a body of.
pub(super) fn append(bytes: &mut Vec<u8>, protocol: Protocol, number: &Number) {
    let Number { path, time_s, value } = number;
    match protocol {
        // Debug shows a float in the fewest digits that tell it, with an exponent where that is shorter.
        Protocol::Plaintext => bytes.extend_from_slice(format!("{path} {value:?} {time_s}\n").as_bytes()),
        Protocol::Pickle => pickle::append(bytes, number),
    }
}

/// The body of these numbers, of which each point has as many as it says.
pub(super) fn seal(protocol: Protocol, numbers_of: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut head = protocol.as_str().to_owned();
    for count in numbers_of {
        // Writing to a String cannot fail.
        let _ = write!(head, " {count}");
    }
    head.push('\n');
    let payload = match protocol {
        Protocol::Plaintext => Cow::Borrowed(bytes),
        Protocol::Pickle => Cow::Owned(pickle::frame(bytes)),
    };
    [head.as_bytes(), &payload].concat()
}

/// What is sent of a body; `None` if it cannot be read.
///
/// A body that was made for the other protocol, before the flags were changed, is made again for this one: it would be
/// thrown away unseen over there.
pub(super) fn payload(bytes: &[u8], protocol: Protocol) -> Option<Cow<'_, [u8]>> {
    let body = Body::read(bytes)?;
    if body.protocol == protocol {
        return Some(Cow::Borrowed(body.payload));
    }
    let made = make(protocol, &body.points()?);
    Some(Cow::Owned(Body::read(&made)?.payload.to_owned()))
}

/// The body with only those points whose flag is set.
pub(super) fn select(bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
    let body = Body::read(bytes)?;
    let points = body.points()?;
    if points.len() != keep.len() {
        return None;
    }
    let chosen: Vec<_> =
        points.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(point, _)| point).collect();
    Some(make(body.protocol, &chosen))
}

fn make(protocol: Protocol, points: &[Vec<Number>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    points.iter().flatten().for_each(|number| append(&mut bytes, protocol, number));
    seal(protocol, &points.iter().map(Vec::len).collect::<Vec<_>>(), &bytes)
}

/// A body that was sealed here.
#[derive(Debug)]
pub(super) struct Body<'a> {
    protocol: Protocol,
    /// How many numbers each point has.
    numbers_of: Vec<usize>,
    payload: &'a [u8],
}

impl<'a> Body<'a> {
    /// Reads the first line; `None` if it is none of ours.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, payload) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
        let mut words = head.split(' ');
        let name = words.next()?;
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == name)?;
        let numbers_of = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { protocol, numbers_of, payload })
    }

    /// The numbers of each point; `None` if they cannot be read or are not as many as the first line says.
    pub(super) fn points(&self) -> Option<Vec<Vec<Number>>> {
        let numbers = match self.protocol {
            Protocol::Plaintext => {
                std::str::from_utf8(self.payload).ok()?.lines().map(line).collect::<Option<Vec<_>>>()?
            }
            Protocol::Pickle => pickle::read(self.payload)?,
        };
        let mut numbers = numbers.into_iter();
        let points = self.numbers_of.iter().map(|count| {
            let point: Vec<_> = numbers.by_ref().take(*count).collect();
            (point.len() == *count && !point.is_empty()).then_some(point)
        });
        let points = points.collect::<Option<Vec<_>>>()?;
        numbers.next().is_none().then_some(points)
    }
}

fn line(line: &str) -> Option<Number> {
    let mut words = line.split(' ');
    let (path, value, time_s) =
        (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Number { path, time_s, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Vec<Number>> {
        let number = |path: &str, value| Number { path: path.to_owned(), time_s: 1_700_000_060, value };
        vec![
            vec![number("lat.web.count", 2.0), number("lat.web.sum", 0.1)],
            vec![number("depth.web", -1e300)],
            vec![number("hits.web.count", 5e-324)],
        ]
    }

    #[test]
    fn the_first_line_counts_and_the_rest_is_what_carbon_gets() {
        let body = make(Protocol::Plaintext, &points());
        let lines = "lat.web.count 2.0 1700000060\nlat.web.sum 0.1 1700000060\ndepth.web -1e300 1700000060\nhits.web.count 5e-324 1700000060\n";
        assert_eq!(String::from_utf8(body.clone()).unwrap(), format!("plaintext 2 1 1\n{lines}"));
        assert_eq!(payload(&body, Protocol::Plaintext).unwrap(), lines.as_bytes());
        let body = make(Protocol::Pickle, &points());
        assert!(body.starts_with(b"pickle 2 1 1\n\0\0"));
        assert_eq!(&*payload(&body, Protocol::Pickle).unwrap(), &body[13..]);
    }

    #[test]
    fn a_body_is_cut_and_read_in_both_protocols() {
        for protocol in Protocol::ALL {
            let body = make(protocol, &points());
            assert_eq!(Body::read(&body).unwrap().points().unwrap(), points());
            let cut = select(&body, &[true, false, true]).unwrap();
            assert_eq!(cut, make(protocol, &[points()[0].clone(), points()[2].clone()]));
            assert_eq!(select(&body, &[true; 4]), None);
        }
    }

    #[test]
    fn a_body_of_the_other_protocol_is_made_again() {
        let [lines, list] = Protocol::ALL.map(|protocol| make(protocol, &points()));
        assert_eq!(payload(&lines, Protocol::Pickle), payload(&list, Protocol::Pickle));
        assert_eq!(payload(&list, Protocol::Plaintext), payload(&lines, Protocol::Plaintext));
    }

    #[test]
    fn what_was_not_sealed_here_is_not_read() {
        for bytes in [&b""[..], b"plaintext 1", b"other 1\na 1 1\n", b"plaintext x\na 1 1\n", b"\xff\n"] {
            assert!(Body::read(bytes).is_none() && payload(bytes, Protocol::Plaintext).is_none());
        }
        for bytes in [
            &b"plaintext 2\na 1 1\n"[..],
            b"plaintext 1\na 1 1\nb 1 1\n",
            b"plaintext 0 1\na 1 1\n",
            b"plaintext 1\na 1\n",
            b"plaintext 1\na 1 1 1\n",
            b"plaintext 1\na x 1\n",
            b"pickle 1\na 1 1\n",
        ] {
            assert_eq!(Body::read(bytes).unwrap().points(), None, "{}", String::from_utf8_lossy(bytes));
            assert_eq!(select(bytes, &[true]), None);
        }
    }
}
