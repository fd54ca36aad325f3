//! Where a Zibrato worker says a metric comes from.

use zibrato_core::text::Field;

use super::Flaw;
use crate::body::{Object, Scalar, SentOrigin};
use crate::errors::Refusal;
use crate::store::model::{Origin, OriginKind};

/// The most levels in one origin.
const LEVELS_MAX: usize = 16;

pub(super) fn origin(sent: Option<&Object<SentOrigin>>, name: &str) -> Result<Option<Origin>, Flaw> {
    let Some(Object(sent)) = sent else { return Ok(None) };
    let refuse = |reason| Err(Flaw::of(Refusal::BadProperty, "origin", "", reason, name));
    let Some(kind) = sent.kind.as_ref().and_then(|kind| OriginKind::of(&kind.text())) else {
        return refuse("must have the kind counter, gauge or timer");
    };
    let levels: Vec<String> = sent.levels.iter().map(Scalar::text).collect();
    if levels.len() > LEVELS_MAX || !levels.iter().all(|level| Field::Level.accepts(level)) {
        return refuse("must have at most 16 levels of 1 to 32 bytes without control characters, '|' or ','");
    }
    let unit = sent.unit.as_ref().map(Scalar::text).filter(|unit| !unit.is_empty());
    if !unit.as_deref().is_none_or(|unit| Field::Unit.accepts(unit)) {
        return refuse("must have a unit of at most 32 bytes without control characters");
    }
    Ok(Some(Origin { kind, levels, unit }))
}
