//! Messages of remote write 1.0 (`prometheus/prompb`), as far as they are sent. A [`TimeSeries`] is written by hand, from
//! labels where they are; here it is read again, when a request has to be cut.

use prost::Message;

/// A request.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<Metadata>,
}

/// Samples of one series.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    /// In the order of their names.
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// A number.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

/// A native histogram of whole counts. The first and the sixth field are members of a `oneof`, so they are there even
/// if they are 0.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) count_int: Option<u64>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub(super) zero_count_int: Option<u64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    /// Unix milliseconds.
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// What is known of a family.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    /// [`COUNTER`], [`GAUGE`] or [`HISTOGRAM`].
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) metric_family_name: String,
    #[prost(string, tag = "4")]
    pub(super) help: String,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
}

pub(super) const COUNTER: i32 = 1;
pub(super) const GAUGE: i32 = 2;
pub(super) const HISTOGRAM: i32 = 3;

/// The value that says that a series has ended.
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_prompb() {
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let request = WriteRequest {
            timeseries: vec![
                TimeSeries {
                    labels: vec![label("__name__", "a")],
                    samples: vec![Sample { value: STALE, timestamp: 300 }],
                    histograms: Vec::new(),
                },
                TimeSeries {
                    labels: Vec::new(),
                    samples: Vec::new(),
                    histograms: vec![Histogram {
                        count_int: Some(0),
                        sum: 1.0,
                        schema: 5,
                        zero_threshold: 0.0,
                        zero_count_int: Some(2),
                        positive_spans: vec![BucketSpan { offset: -1, length: 2 }],
                        positive_deltas: vec![1, -1],
                        timestamp: 1,
                    }],
                },
            ],
            metadata: vec![Metadata {
                kind: COUNTER,
                metric_family_name: "a".to_owned(),
                help: "h".to_owned(),
                unit: "u".to_owned(),
            }],
        };
        let expected: &[u8] = &[
            0x0a, 0x1d, 0x0a, 0x0d, 0x0a, 8, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x12, 1, b'a',
            0x12, 12, 0x09, 2, 0, 0, 0, 0, 0, 0xf0, 0x7f, 0x10, 0xac, 0x02, //
            0x0a, 0x1d, 0x22, 0x1b, 0x08, 0, 0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x20, 10, 0x30, 2, 0x5a, 4,
            0x08, 1, 0x10, 2, 0x62, 2, 2, 1, 0x78, 1, //
            0x1a, 11, 0x08, 1, 0x12, 1, b'a', 0x22, 1, b'h', 0x2a, 1, b'u',
        ];
        let got = request.encode_to_vec();
        assert_eq!(got, expected);
        // A stale marker is a NaN, which equals nothing, so the bytes are compared.
        assert_eq!(WriteRequest::decode(expected).unwrap().encode_to_vec(), expected);
    }
}
