//! What is wrong with one measurement.

use serde_json::{Value, json};

use crate::errors::{ApiError, Refusal};

/// How much of what was sent an error repeats, in characters: more than any name may have. What a batch
/// says once can be wrong for each of its measurements.
const VALUE_CHARS_MAX: usize = 512;

/// What is wrong with one measurement. The two APIs say it in different shapes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Flaw {
    pub(crate) refusal: Refusal,
    param: String,
    /// What was sent, or its beginning.
    value: String,
    reason: &'static str,
    shape: Shape,
    /// The metric, once its name is known to be one.
    name: Option<String>,
}

/// How Librato told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// The reason.
    Reason,
    /// The value, then the reason.
    ValueAndReason,
    /// The reason and the metric's name as a string.
    WithName,
    /// The reason and the metric's name in an array.
    WithNameInArray,
}

impl Flaw {
    /// Something without a name is wrong.
    pub(super) fn new(refusal: Refusal, param: &str, value: impl Into<String>, reason: &'static str) -> Self {
        let (param, mut value) = (param.to_owned(), value.into());
        if let Some((end, _)) = value.char_indices().nth(VALUE_CHARS_MAX) {
            value = format!("{}...", &value[..end]);
        }
        Self { refusal, param, value, reason, shape: Shape::Reason, name: None }
    }

    /// A name is none; the error repeats it.
    pub(super) fn bad_name(refusal: Refusal, param: &str, value: String, reason: &'static str) -> Self {
        Self { shape: Shape::ValueAndReason, ..Self::new(refusal, param, value, reason) }
    }

    /// A field of the metric `name` is wrong.
    pub(super) fn of(
        refusal: Refusal,
        param: &str,
        value: impl Into<String>,
        reason: &'static str,
        name: &str,
    ) -> Self {
        let flaw = Self::new(refusal, param, value, reason);
        Self { shape: Shape::WithName, name: Some(name.to_owned()), ..flaw }
    }

    /// A value of the metric `name` is wrong.
    pub(super) fn of_value(param: &str, value: impl Into<String>, reason: &'static str, name: &str) -> Self {
        Self { shape: Shape::WithNameInArray, ..Self::of(Refusal::BadValue, param, value, reason, name) }
    }

    /// The metric `name` is a counter, which tags cannot be.
    pub(crate) fn clash(name: &str) -> Self {
        Self::of(
            Refusal::TypeClash,
            "type",
            "gauge",
            "is a counter, but was submitted as different type",
            name,
        )
    }

    /// The same for a measurement of the metric `name`.
    pub(super) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// One of the `errors` in the answer of `POST /v1/measurements`. The fields `param`, `value` and
    /// `reason` are what is remembered of Librato's answers; the name of the metric is ours.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "param": self.param, "value": self.value, "reason": self.reason });
        if let Some(name) = &self.name {
            error["name"] = name.as_str().into();
        }
        error
    }
}

impl From<Flaw> for ApiError {
    fn from(flaw: Flaw) -> Self {
        let Flaw { refusal, param, value, reason, shape, name } = flaw;
        let name = name.unwrap_or_default();
        match shape {
            Shape::Reason => Self::param(refusal, &param, reason),
            Shape::ValueAndReason => Self::param(refusal, &param, format!("{value} {reason}")),
            Shape::WithName => Self::field(refusal, &param, reason, &name),
            Shape::WithNameInArray => Self::value(refusal, &param, reason, &name),
        }
    }
}
