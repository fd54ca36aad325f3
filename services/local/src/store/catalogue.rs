//! What is known beside points: the properties of metrics and sources, and annotations.
//!
//! Each change runs in one transaction of the writer's. Names are found by their key, which is the name in lower case. Whatever a client sent reaches a
//! statement as a parameter, never as text of it.

mod annotations;
mod metrics;
mod sources;

use std::collections::HashSet;

use rusqlite::Connection;

use super::{Store, StoreError};

pub(crate) use annotations::{
    Event, EventChanges, EventOutcome, EventsQuery, LINKS_MAX, Link, LinkOutcome, NewEvent, Stream,
};
pub(crate) use metrics::{Metric, MetricPut, Names, PutOutcome};
pub(crate) use sources::{Source, TaggedSource};

/// A part of a list, ordered by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListQuery {
    /// Only names that contain this, in any case; empty for all.
    pub(crate) name_contains: String,
    pub(crate) offset: i64,
    pub(crate) length: i64,
    pub(crate) descending: bool,
}

impl ListQuery {
    fn order(&self) -> &'static str {
        if self.descending { "DESC" } else { "ASC" }
    }
}

/// What a [`ListQuery`] found.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    /// All that match.
    pub(crate) found: i64,
    /// All there are.
    pub(crate) total: i64,
    pub(crate) rows: Vec<T>,
}

impl Store {
    /// A page of the metrics' list.
    pub(crate) async fn metrics(&self, query: ListQuery) -> Result<Page<Metric>, StoreError> {
        self.read(move |connection| metrics::list(connection, &query)).await
    }

    /// One metric.
    pub(crate) async fn metric(&self, name: String) -> Result<Option<Metric>, StoreError> {
        self.read(move |connection| metrics::one(connection, &name)).await
    }

    /// The metrics that are named, in order of name.
    pub(crate) async fn metrics_named(&self, names: Names) -> Result<Vec<String>, StoreError> {
        self.read(move |connection| metrics::named(connection, &names)).await
    }

    /// Those of `names` that are counters, in lower case.
    pub(crate) async fn counters_among(&self, names: Vec<String>) -> Result<HashSet<String>, StoreError> {
        self.read(move |connection| metrics::counters_among(connection, &names)).await
    }

    /// Changes a metric, or creates it.
    pub(crate) async fn put_metric(&self, put: MetricPut) -> Result<PutOutcome, StoreError> {
        self.change(move |connection| metrics::put(connection, &put)).await
    }

    /// Changes those of these metrics that exist.
    pub(crate) async fn update_metrics(
        &self,
        names: Vec<String>,
        changes: crate::validate::Changes,
    ) -> Result<(), StoreError> {
        self.change(move |connection| metrics::update(connection, &names, &changes)).await
    }

    /// Deletes metrics; their points vanish at once and their room is freed by and by.
    pub(crate) async fn delete_metrics(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.change(move |connection| metrics::delete(connection, &names)).await
    }

    /// A page of the sources' list.
    pub(crate) async fn sources(&self, query: ListQuery) -> Result<Page<Source>, StoreError> {
        self.read(move |connection| sources::list(connection, &query)).await
    }

    /// One source.
    pub(crate) async fn source(&self, name: String) -> Result<Option<Source>, StoreError> {
        self.read(move |connection| sources::one(connection, &name)).await
    }

    /// Names a source, or creates it; true if it was created.
    pub(crate) async fn put_source(
        &self,
        name: String,
        display_name: Option<Option<String>>,
    ) -> Result<bool, StoreError> {
        self.change(move |connection| sources::put(connection, &name, display_name.as_ref())).await
    }

    /// Deletes a source with all that it measured.
    pub(crate) async fn delete_source(&self, name: String) -> Result<(), StoreError> {
        self.change(move |connection| sources::delete(connection, &name)).await
    }

    /// The sources that measured a metric, as tags.
    pub(crate) async fn tagged_sources(&self, metric: i64) -> Result<Vec<TaggedSource>, StoreError> {
        self.read(move |connection| sources::of_metric(connection, metric)).await
    }

    /// A page of the annotation streams' list.
    pub(crate) async fn streams(&self, query: ListQuery) -> Result<Page<Stream>, StoreError> {
        self.read(move |connection| annotations::list(connection, &query)).await
    }

    /// One annotation stream.
    pub(crate) async fn stream(&self, name: String) -> Result<Option<Stream>, StoreError> {
        self.read(move |connection| annotations::stream(connection, &name)).await
    }

    /// Names a stream for display; false if there is none.
    pub(crate) async fn update_stream(
        &self,
        name: String,
        display_name: Option<String>,
    ) -> Result<bool, StoreError> {
        self.change(move |connection| annotations::update_stream(connection, &name, display_name.as_deref()))
            .await
    }

    /// Deletes a stream with its events; false if there is none.
    pub(crate) async fn delete_stream(&self, name: String) -> Result<bool, StoreError> {
        self.change(move |connection| annotations::delete_stream(connection, &name)).await
    }

    /// Events of one stream or of all, in order of their start.
    pub(crate) async fn events(&self, query: EventsQuery) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| annotations::events(connection, &query)).await
    }

    /// One event.
    pub(crate) async fn event(&self, stream: String, id: i64) -> Result<Option<Event>, StoreError> {
        self.read(move |connection| annotations::event(connection, &stream, id)).await
    }

    /// Adds an event, and its stream if there is none.
    pub(crate) async fn add_event(&self, stream: String, event: NewEvent) -> Result<Event, StoreError> {
        self.change(move |connection| annotations::add(connection, &stream, &event)).await
    }

    /// Changes an event.
    pub(crate) async fn update_event(
        &self,
        stream: String,
        id: i64,
        changes: EventChanges,
    ) -> Result<EventOutcome, StoreError> {
        self.change(move |connection| annotations::update(connection, &stream, id, &changes)).await
    }

    /// Deletes an event; false if there is none.
    pub(crate) async fn delete_event(&self, stream: String, id: i64) -> Result<bool, StoreError> {
        self.change(move |connection| annotations::delete(connection, &stream, id)).await
    }

    /// Adds a link to an event.
    pub(crate) async fn add_link(
        &self,
        stream: String,
        id: i64,
        link: Link,
    ) -> Result<LinkOutcome, StoreError> {
        self.change(move |connection| annotations::add_link(connection, &stream, id, &link)).await
    }

    /// Takes a link from an event; false if it has none of this relation.
    pub(crate) async fn delete_link(&self, stream: String, id: i64, rel: String) -> Result<bool, StoreError> {
        self.change(move |connection| annotations::delete_link(connection, &stream, id, &rel)).await
    }
}

/// The name as it is looked up.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The keys of names, as a JSON array for `json_each`.
fn keys(names: &[String]) -> String {
    serde_json::Value::from_iter(names.iter().map(|name| key(name))).to_string()
}

/// Gives up the series that `condition` with the parameter `?1` selects: what they hold cannot be read
/// from here on, and the packer frees its room in slices, so that nobody has to wait for it.
fn discard_series(connection: &Connection, condition: &str, id: i64) -> rusqlite::Result<()> {
    connection
        .execute(&format!("INSERT INTO garbage (series) SELECT id FROM series WHERE {condition}"), [id])?;
    connection.execute(&format!("DELETE FROM series WHERE {condition}"), [id])?;
    Ok(())
}

/// What the store holds, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) metrics: u64,
    pub(crate) db_bytes: u64,
    /// What its file system has left for it; `None` if the system does not say.
    pub(crate) disk_free_bytes: Option<u64>,
    pub(crate) newest: Option<i64>,
}

impl Store {
    /// What the store holds, in numbers.
    pub(crate) async fn facts(&self) -> Result<Facts, StoreError> {
        self.read(|connection| {
            let sql = "SELECT (SELECT count(*) FROM metrics), (SELECT max(newest) FROM series),
                (SELECT (page_count - freelist_count) * page_size
                 FROM pragma_page_count, pragma_freelist_count, pragma_page_size)";
            let file_system = connection.path().and_then(|path| rustix::fs::statvfs(path).ok());
            let disk_free_bytes = file_system.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            connection.query_row(sql, (), |row| {
                let number = |column| row.get(column).map(i64::unsigned_abs);
                Ok(Facts { metrics: number(0)?, newest: row.get(1)?, db_bytes: number(2)?, disk_free_bytes })
            })
        })
        .await
    }
}
