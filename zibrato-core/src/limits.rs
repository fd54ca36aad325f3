//! Every bound of the wire and of a series, in one place. WIRE.md section 9 lists the same numbers.

/// Largest native or legacy message, in bytes, topic included. A publisher splits what is larger.
pub const FRAME_BYTES_MAX: usize = 65_536;
/// Longest metric name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 255;
/// Longest level label, in bytes.
pub const LEVEL_BYTES_MAX: usize = 32;
/// Longest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = 32;
/// Most tags one metric may carry.
pub const TAGS_MAX: usize = 8;
/// Longest tag key, in bytes.
pub const TAG_KEY_BYTES_MAX: usize = 64;
/// Longest tag value, in bytes.
pub const TAG_VALUE_BYTES_MAX: usize = 255;
/// Most parts of one key frame.
pub const PARTS_MAX: usize = u16::MAX as usize;
/// Most loss reasons one frame reports.
pub const LOSSES_MAX: usize = 16;
/// Most metrics of one sample frame.
pub const SAMPLE_METRICS_MAX: usize = 1_024;
/// Scale a histogram starts with: 32 buckets an octave, relative error at most 1.1 %.
pub const HISTOGRAM_SCALE: i8 = 5;
/// Lowest scale a histogram is folded down to: one bucket for every 1 024 octaves, that is two for all doubles.
pub const HISTOGRAM_SCALE_MIN: i8 = -10;
/// Most buckets of one histogram; at this width it is downscaled by one.
pub const HISTOGRAM_BUCKETS_MAX: usize = 640;
/// Source of a series that names none.
pub const SOURCE_DEFAULT: &str = "not_specified";
/// Default window: the interval after which a publisher emits a frame, in milliseconds.
pub const WINDOW_MS_DEFAULT: u32 = 1_000;
/// Every how many windows a publisher emits a key frame.
pub const KEY_FRAME_WINDOWS: u32 = 10;
/// Default hold: how long an on-demand level stays on after its last subscription left, in milliseconds.
pub const HOLD_MS_DEFAULT: u32 = 15_000;
