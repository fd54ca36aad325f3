//! What the bodies of each backend say, read without its code.
//!
//! Only counters and timers with names of letters and digits are looked for.

use std::io::Read;

use flate2::read::GzDecoder;

/// How a backend writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Librato's JSON.
    Librato,
    /// OTLP as protobuf, with or without gzip.
    Otlp,
    /// InfluxDB's lines, with or without gzip.
    Influx,
    /// Remote write: protobuf in Snappy.
    RemoteWrite,
    /// Carbon's lines.
    Graphite,
    /// StatsD's lines.
    Statsd,
    /// An object of JSON a line.
    Jsonl,
}

/// A counter or a timer of a body.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Its name, as it was recorded.
    pub name: String,
    /// The sum of a counter, the number of records of a timer.
    pub value: f64,
    /// How the store would call it when it complains.
    pub series: String,
}

impl Format {
    /// The points of a body, in their order.
    ///
    /// # Panics
    /// If it is not what a worker sends.
    pub fn points(self, body: &[u8]) -> Vec<Point> {
        match self {
            Self::Librato => librato(body),
            Self::Otlp => otlp(&unzipped(body)),
            Self::Influx => influx(&String::from_utf8(unzipped(body)).unwrap()),
            Self::RemoteWrite => remote_write(&snap::raw::Decoder::new().decompress_vec(body).unwrap()),
            Self::Graphite => graphite(std::str::from_utf8(body).unwrap()),
            Self::Statsd => statsd(std::str::from_utf8(body).unwrap()),
            Self::Jsonl => jsonl(std::str::from_utf8(body).unwrap()),
        }
    }
}

fn point(name: &str, value: f64, series: &str) -> Point {
    Point { name: name.to_owned(), value, series: series.to_owned() }
}

fn unzipped(body: &[u8]) -> Vec<u8> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return body.to_vec();
    }
    let mut bytes = Vec::new();
    GzDecoder::new(body).read_to_end(&mut bytes).unwrap();
    bytes
}

fn librato(body: &[u8]) -> Vec<Point> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    let gauges = json["gauges"].as_array().unwrap().iter();
    let read = |gauge: &serde_json::Value| {
        let name = gauge["name"].as_str().unwrap();
        point(name, gauge["count"].as_f64().or(gauge["value"].as_f64()).unwrap(), name)
    };
    gauges.map(read).collect()
}

fn influx(text: &str) -> Vec<Point> {
    let read = |line: &str| {
        let (key, rest) = line.split_once(' ')?;
        let fields = rest.split_once(' ')?.0;
        let count = fields.split(',').find_map(|field| field.strip_prefix("count="))?;
        Some(point(key.split(',').next()?, count.parse().ok()?, line))
    };
    text.lines().filter_map(read).collect()
}

fn graphite(text: &str) -> Vec<Point> {
    let read = |line: &str| {
        let mut words = line.split(' ');
        let path = words.next()?.strip_suffix(".count")?;
        Some(point(path.split('.').next()?, words.next()?.parse().ok()?, path))
    };
    text.lines().filter_map(read).collect()
}

fn statsd(text: &str) -> Vec<Point> {
    let read = |line: &str| {
        let (path, rest) = line.split_once(':')?;
        let value = rest.strip_suffix("|c")?;
        let nodes: Vec<&str> = path.split('.').collect();
        // name.source.SOURCE of a counter, and a field more of a timer.
        let is_count = nodes.len() == 3 || nodes.last() == Some(&"count");
        is_count.then(|| point(nodes[0], value.parse().unwrap(), path))
    };
    text.lines().filter_map(read).collect()
}

fn jsonl(text: &str) -> Vec<Point> {
    let read = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = json["name"].as_str().unwrap();
        Some(point(name, json["delta"].as_f64().or(json["count"].as_f64())?, name))
    };
    text.lines().filter_map(read).collect()
}

fn otlp(bytes: &[u8]) -> Vec<Point> {
    let (mut points, inside) = (Vec::new(), [1, 2, 2]);
    for metric in below(bytes, &inside) {
        let name = String::from_utf8(message(metric, 1)[0].to_vec()).unwrap();
        for sum in below(metric, &[7, 1]) {
            let whole = fixed(sum, 6).map(|bits| bits as i64 as f64);
            points.push(point(&name, whole.or(fixed(sum, 4).map(f64::from_bits)).unwrap(), &name));
        }
        for timer in below(metric, &[10, 1]) {
            points.push(point(&name, fixed(timer, 4).unwrap_or(0) as f64, &name));
        }
    }
    points
}

fn remote_write(bytes: &[u8]) -> Vec<Point> {
    let text = |bytes: &[u8], field| String::from_utf8(message(bytes, field)[0].to_vec()).unwrap();
    let read = |series: &[u8]| {
        let labels = message(series, 1).into_iter();
        let mut labels: Vec<_> = labels.map(|label| (text(label, 1), text(label, 2))).collect();
        let at = labels.iter().position(|(name, _)| name == "__name__").unwrap();
        let full = labels.remove(at).1;
        let name = full.strip_suffix("_total").or(full.strip_suffix("_seconds_count"))?;
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let value = fixed(message(series, 2)[0], 1).map_or(0.0, f64::from_bits);
        Some(point(name, value, &format!("{full}{{{}}}", labels.join(", "))))
    };
    message(bytes, 1).into_iter().filter_map(read).collect()
}

/// A field of a message of protobuf.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The messages at the end of a path of field numbers.
fn below<'a>(bytes: &'a [u8], path: &[u64]) -> Vec<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else { return vec![bytes] };
    message(bytes, *first).into_iter().flat_map(|inner| below(inner, rest)).collect()
}

fn message(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let of = |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

fn fixed(bytes: &[u8], wanted: u64) -> Option<u64> {
    fields(bytes).into_iter().find_map(|(number, value)| match value {
        Value::Number(bits) if number == wanted => Some(bits),
        _ => None,
    })
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, length))
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}
