//! Names that are near to one that does not exist.

use std::collections::BTreeSet;

use super::catalogue::Page;
use super::client::{Client, ClientError};

/// Most names that are suggested.
const NAMES_MAX: usize = 5;
/// By how many changes a name may be farther than the nearest.
const FARTHER_MAX: usize = 3;
/// Most parts of the name that are looked for, the longest first.
const PARTS_MAX: usize = 4;
/// Shortest part worth a look, in bytes.
const PART_BYTES_MIN: usize = 3;
/// Names of one look that are considered, as many as a page has.
const PAGE_LENGTH: usize = 100;

/// `; did you mean a, b?`, or how to see all names.
pub(super) async fn hint(client: &Client, name: &str) -> Result<String, ClientError> {
    let mut known = BTreeSet::new();
    for part in parts(name) {
        let parameters = [("name", part.to_owned()), ("length", PAGE_LENGTH.to_string())];
        let page = client.read::<Page>(&["v1", "metrics"], &parameters).await?;
        known.extend(page.into_iter().flat_map(|page| page.metrics).map(|metric| metric.name));
    }
    let near = nearest(name, known);
    Ok(match near.is_empty() {
        true => "; list all with zibrato query '*'".to_owned(),
        false => format!("; did you mean {}?", near.join(", ")),
    })
}

/// The halves of the name, which find it if there is one slip, and its words.
fn parts(name: &str) -> Vec<&str> {
    // Names are ASCII, as the flag's parser sees to.
    let (left, right) = name.split_at_checked(name.len() / 2).unwrap_or((name, ""));
    let mut words: Vec<&str> = name.split(|char: char| !char.is_ascii_alphanumeric()).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut parts = Vec::new();
    for part in words.into_iter().chain([left, right]).filter(|part| part.len() >= PART_BYTES_MIN) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let halves = parts.len().saturating_sub(PARTS_MAX);
    // The halves stand at the end and matter most.
    parts.drain(..halves);
    parts
}

/// The names with the fewest changes, the nearest first.
fn nearest(name: &str, known: BTreeSet<String>) -> Vec<String> {
    let mut ranked: Vec<(usize, String)> = known
        .into_iter()
        .map(|other| (distance(&name.to_lowercase(), &other.to_lowercase()), other))
        .collect();
    ranked.sort();
    let Some(farthest) = ranked.first().map(|(least, _)| least + FARTHER_MAX) else { return Vec::new() };
    ranked.into_iter().take_while(|(far, _)| *far <= farthest).take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// How many bytes have to be added, removed or changed (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let fewest = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], fewest);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_changes() {
        for (left, right, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("web.reqests", "web.requests", 1),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_name_with_one_slip_is_found_by_one_of_its_parts() {
        for (slip, name) in
            [("web.reqests", "web.requests"), ("wbe.requests", "web.requests"), ("latancy", "latency")]
        {
            assert!(parts(slip).iter().any(|part| name.contains(part)), "{slip}: {:?}", parts(slip));
        }
        assert!(parts("ab").is_empty());
        assert!(parts("a.very.long.name.of.many.words.indeed").len() <= PARTS_MAX);
    }

    #[test]
    fn the_nearest_come_first_whatever_their_case() {
        let known = ["Web.Requests", "web.requests.slow", "db.requests", "disk"].map(str::to_owned).into();
        assert_eq!(nearest("web.request", known), ["Web.Requests", "db.requests"]);
        assert!(nearest("x", BTreeSet::new()).is_empty());
    }
}
