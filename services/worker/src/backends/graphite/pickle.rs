//! The part of Python's pickle protocol 2 that carbon's protocol needs: a list of `(path, (time, value))`.

use super::wire::Number;

/// Protocol 2, an empty list, and the mark before its elements.
const START: [u8; 4] = [0x80, 2, b']', b'('];
/// The elements behind the mark are appended; the list is the result.
const END: [u8; 2] = [b'e', b'.'];
/// A text: length in four bytes, little-endian, then UTF-8.
const BINUNICODE: u8 = b'X';
/// A whole number in four bytes, little-endian, signed.
const BININT: u8 = b'J';
/// A whole number: how many bytes, then as many, little-endian, signed.
const LONG1: u8 = 0x8a;
/// A float in eight bytes, big-endian.
const BINFLOAT: u8 = b'G';
/// Makes a pair of the last two.
const TUPLE2: u8 = 0x86;

/// Appends an element of the list.
pub(super) fn append(bytes: &mut Vec<u8>, number: &Number) {
    bytes.push(BINUNICODE);
    // A path has at most some thousand bytes.
    bytes.extend_from_slice(&(number.path.len() as u32).to_le_bytes());
    bytes.extend_from_slice(number.path.as_bytes());
    match i32::try_from(number.time_s) {
        Ok(time_s) => {
            bytes.push(BININT);
            bytes.extend_from_slice(&time_s.to_le_bytes());
        }
        // From 2038 on. Milliseconds in a u64 are seconds that an i64 holds.
        Err(_) => {
            bytes.extend_from_slice(&[LONG1, 8]);
            bytes.extend_from_slice(&number.time_s.to_le_bytes());
        }
    }
    bytes.push(BINFLOAT);
    bytes.extend_from_slice(&number.value.to_be_bytes());
    bytes.extend_from_slice(&[TUPLE2, TUPLE2]);
}

/// The frame of these elements: length in four bytes, big-endian, then the list.
pub(super) fn frame(elements: &[u8]) -> Vec<u8> {
    let length = START.len() + elements.len() + END.len();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    frame.extend_from_slice(&START);
    frame.extend_from_slice(elements);
    frame.extend_from_slice(&END);
    frame
}

/// Reads a frame that was written here; `None` for anything else.
pub(super) fn read(frame: &[u8]) -> Option<Vec<Number>> {
    let (length, list) = frame.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*length) as usize != list.len() {
        return None;
    }
    let mut rest = list.strip_prefix(&START)?.strip_suffix(&END)?;
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        let (number, behind) = element(rest)?;
        numbers.push(number);
        rest = behind;
    }
    Some(numbers)
}

fn element(bytes: &[u8]) -> Option<(Number, &[u8])> {
    let (length, bytes) = bytes.strip_prefix(&[BINUNICODE])?.split_first_chunk::<4>()?;
    let (path, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let path = std::str::from_utf8(path).ok()?.to_owned();
    let (time_s, bytes) = if let Some(bytes) = bytes.strip_prefix(&[BININT]) {
        let (time_s, bytes) = bytes.split_first_chunk::<4>()?;
        (u64::try_from(i32::from_le_bytes(*time_s)).ok()?, bytes)
    } else {
        let (time_s, bytes) = bytes.strip_prefix(&[LONG1, 8])?.split_first_chunk::<8>()?;
        (u64::from_le_bytes(*time_s), bytes)
    };
    let (value, bytes) = bytes.strip_prefix(&[BINFLOAT])?.split_first_chunk::<8>()?;
    let bytes = bytes.strip_prefix(&[TUPLE2, TUPLE2])?;
    Some((Number { path, time_s, value: f64::from_be_bytes(*value) }, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn numbers() -> Vec<Number> {
        let number = |path: &str, time_s, value| Number { path: path.to_owned(), time_s, value };
        vec![
            number("web.hits.count", 1_700_000_060, 5.0),
            number("web;source=a{b}", 2_147_483_647, -0.0),
            number("", 2_147_483_648, 5e-324),
            number(&"x".repeat(3_000), u64::MAX / 1_000, f64::MAX),
        ]
    }

    fn framed(numbers: &[Number]) -> Vec<u8> {
        let mut elements = Vec::new();
        numbers.iter().for_each(|number| append(&mut elements, number));
        frame(&elements)
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let expected =
            [&[0, 0, 0, 30][..], b"\x80\x02](X\x03\0\0\0a.bJ\x3c\xf1\x53\x65G\x3f\xf8\0\0\0\0\0\0\x86\x86e."]
                .concat();
        assert_eq!(framed(&[Number { path: "a.b".to_owned(), time_s: 1_700_000_060, value: 1.5 }]), expected);
    }

    #[test]
    fn frames_are_read_back_and_damaged_ones_are_not() {
        assert_eq!(read(&framed(&numbers())).unwrap(), numbers());
        assert_eq!(read(&framed(&[])).unwrap(), []);
        let frame = framed(&numbers()[..3]);
        for end in 0..frame.len() {
            assert_eq!(read(&frame[..end]), None, "cut at {end}");
        }
        for at in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            // Another number, or none; never a panic.
            let seen = read(&damaged).map(|numbers| framed(&numbers));
            assert_ne!(seen.as_deref(), Some(&frame[..]), "bit {at}");
        }
    }

    #[test]
    fn python_reads_what_was_written() {
        let script = "import pickle,struct,sys\nb=sys.stdin.buffer.read()\nn,=struct.unpack('!L',b[:4])\nassert n==len(b)-4\n\
                      for p,(t,v) in pickle.loads(b[4:]): print(repr(p),t,type(t).__name__,v.hex())";
        let mut python = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, which ci/setup installs");
        python.stdin.take().unwrap().write_all(&framed(&numbers())).unwrap();
        let output = python.wait_with_output().unwrap();
        let long = "x".repeat(3_000);
        let expected = format!(
            "'web.hits.count' 1700000060 int 0x1.4000000000000p+2\n\
             'web;source=a{{b}}' 2147483647 int -0x0.0p+0\n\
             '' 2147483648 int 0x0.0000000000001p-1022\n\
             '{long}' 18446744073709551 int 0x1.fffffffffffffp+1023\n"
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
