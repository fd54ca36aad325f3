//! Levels in flags.

use zibrato_core::text::Field;

/// A value parser for one level.
///
/// # Errors
/// What is accepted.
pub(crate) fn parse_level(text: &str) -> Result<String, String> {
    let level = text.trim();
    Field::Level.check(level).map_err(|error| format!("level {level:?}: {error}"))?;
    Ok(level.to_owned())
}
