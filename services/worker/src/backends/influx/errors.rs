//! Reads what InfluxDB says is wrong.

use serde_json::Value as Json;

/// What a partial write is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// A field of a measurement has another type in the shard where the point belongs. Only the first one is told.
    FieldType {
        /// The measurement.
        name: String,
        /// The field.
        field: String,
    },
    /// Points from before what the retention policy keeps: the oldest ones.
    Retention,
    /// A tag of a measurement has too many values already. Only one new value is told.
    TagValues {
        /// The measurement.
        name: String,
        /// The tag's key.
        key: String,
        /// The value that is one too many.
        value: String,
    },
    /// The database has too many series already.
    Series,
    /// Anything else.
    Other,
}

/// The text of an answer: `error` of version 1, `message` of version 2, else all of it.
pub(super) fn text(body: &[u8]) -> String {
    let json = serde_json::from_slice::<Json>(body).unwrap_or_default();
    let told = ["error", "message"].iter().find_map(|key| json.get(key)?.as_str().map(str::to_owned));
    told.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

/// The lines that could not be read, as they were sent. A line holds no blank that is not escaped, so that it ends where
/// `': ` begins.
pub(super) fn unparsable(text: &str) -> impl Iterator<Item = &str> {
    text.split("unable to parse '").skip(1).filter_map(|rest| Some(rest.split_once("': ")?.0))
}

/// How many points were not stored, of a partial write.
pub(super) fn dropped(text: &str) -> Option<usize> {
    let (_, digits) = text.rsplit_once("dropped=")?;
    digits.trim().parse().ok()
}

pub(super) fn complaint(text: &str) -> Complaint {
    let found = if text.contains("field type conflict") {
        field_type(text)
    } else if text.contains("points beyond retention policy") {
        Some(Complaint::Retention)
    } else if text.contains("max-values-per-tag limit exceeded") {
        tag_values(text)
    } else if text.contains("max-series-per-database limit exceeded") {
        Some(Complaint::Series)
    } else {
        None
    };
    found.unwrap_or(Complaint::Other)
}

fn field_type(text: &str) -> Option<Complaint> {
    let field = quoted_behind(text, "input field ")?;
    let name = quoted_behind(text, "on measurement ")?;
    Some(Complaint::FieldType { name, field })
}

fn tag_values(text: &str) -> Option<Complaint> {
    let name = quoted_behind(text, "measurement=")?;
    let (key, value) = (quoted_behind(text, " tag=")?, quoted_behind(text, " value=")?);
    Some(Complaint::TagValues { name, key, value })
}

/// The text in quotes behind a word. Go quotes as JSON does but for what is not printable, which we do not send.
fn quoted_behind(text: &str, word: &str) -> Option<String> {
    let (_, rest) = text.split_once(word)?;
    serde_json::Deserializer::from_str(rest).into_iter::<String>().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of InfluxDB 1.6.7, but for the last of a kind, which version 2 wraps.
    #[test]
    fn complaints_are_read_as_they_were_seen() {
        let conflict = Complaint::FieldType { name: "m.a".to_owned(), field: "value".to_owned() };
        let values =
            Complaint::TagValues { name: "t".to_owned(), key: "u".to_owned(), value: "a\"b".to_owned() };
        let rows = [
            (
                r#"{"error":"partial write: field type conflict: input field \"value\" on measurement \"m.a\" is type float, already exists as type integer dropped=4"}"#,
                conflict.clone(),
                Some(4),
            ),
            (
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"value\" on measurement \"m.a\" is type float, already exists as type integer dropped=1"}"#,
                conflict,
                Some(1),
            ),
            (
                r#"{"error":"partial write: points beyond retention policy dropped=2"}"#,
                Complaint::Retention,
                Some(2),
            ),
            (
                r#"{"error":"partial write: max-values-per-tag limit exceeded (7/5): measurement=\"t\" tag=\"u\" value=\"a\\\"b\" dropped=2"}"#,
                values,
                Some(2),
            ),
            (
                r#"{"error":"partial write: max-series-per-database limit exceeded: (100) dropped=3"}"#,
                Complaint::Series,
                Some(3),
            ),
            (r#"{"error":"partial write: field type conflict dropped=x"}"#, Complaint::Other, None),
            (r#"{"error":"unexpected EOF"}"#, Complaint::Other, None),
            ("Bad Request", Complaint::Other, None),
            ("", Complaint::Other, None),
        ];
        for (body, expected, count) in rows {
            let text = text(body.as_bytes());
            assert_eq!((complaint(&text), dropped(&text)), (expected, count), "{body}");
        }
    }

    #[test]
    fn lines_that_could_not_be_read_are_named() {
        let body = r#"{"error":"partial write: unable to parse 'a,t=it's\\ : v= 1': missing field value\nunable to parse 'b v=1i2 1': invalid number dropped=0"}"#;
        let text = text(body.as_bytes());
        assert_eq!(Vec::from_iter(unparsable(&text)), [r"a,t=it's\ : v= 1", "b v=1i2 1"]);
        assert_eq!(unparsable("unable to parse 'cut").count(), 0);
    }
}
