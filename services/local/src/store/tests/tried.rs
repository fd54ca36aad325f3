//! A store of one metric without its threads, and the list of its points in order of arrival.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};

use crate::config::Keep;
use crate::store::maintain::Maintenance;
use crate::store::model::{RawPoint, Summary};
use crate::store::pack::PACK_AFTER_S;
use crate::store::rollup::{Steps, step_of};
use crate::store::{schema, tail};

/// The sources; the place of one is the id of its series less 1.
pub(super) const SOURCES: [&str; 3] = ["a", "b", "c"];
/// Where time begins: the beginning of an hour.
pub(super) const BEGIN: i64 = 1_699_999_200;
/// Nothing expires.
pub(super) const KEEP_ALL: Keep =
    Keep { raw_s: u64::MAX, minute_s: u64::MAX, quarter_s: u64::MAX, hour_s: u64::MAX };

pub(super) struct Tried {
    pub(super) connection: Connection,
    pub(super) maintenance: Maintenance,
    pub(super) now: i64,
    arrived: Vec<(usize, RawPoint)>,
}

impl Tried {
    pub(super) fn new() -> Self {
        Self::with(Path::new(":memory:"), KEEP_ALL)
    }

    pub(super) fn with(path: &Path, keep: Keep) -> Self {
        let mut connection = Connection::open(path).unwrap();
        schema::prepare(&mut connection, path).unwrap();
        connection
            .execute_batch(
                "INSERT INTO metrics (id, name, name_key, kind, attributes, created) VALUES (1, 'm', 'm', 'gauge', '{}', 0)",
            )
            .unwrap();
        for (place, source) in SOURCES.iter().enumerate() {
            let id = place as i64 + 1;
            let sql = "INSERT INTO sources (id, name, name_key) VALUES (?1, ?2, ?2)";
            connection.execute(sql, params![id, source]).unwrap();
            let sql = "INSERT INTO series (id, metric, source, newest) VALUES (?1, 1, ?1, 0)";
            connection.execute(sql, [id]).unwrap();
        }
        let maintenance = Maintenance::new(&mut connection, keep).unwrap();
        Self { connection, maintenance, now: BEGIN, arrived: Vec::new() }
    }

    pub(super) fn arrive(&mut self, source: usize, point: RawPoint) {
        tail::Insert::prepare(&self.connection).unwrap().add(source as i64 + 1, &point).unwrap();
        self.maintenance.packer.note([point.t].into_iter());
        self.arrived.push((source, point));
    }

    /// Does all there is to do now.
    pub(super) fn maintain(&mut self) {
        while self.maintenance.step(&mut self.connection, self.now) {}
    }

    /// Lets time pass until everything that has arrived may be packed, and packs it.
    pub(super) fn pack_all(&mut self) {
        self.now += PACK_AFTER_S + 600;
        self.maintain();
    }

    pub(super) fn count(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, (), |row| row.get(0)).unwrap()
    }

    /// The points of a source in a range, in order of time and arrival.
    pub(super) fn points(&self, source: usize, start: i64, end: i64) -> Vec<RawPoint> {
        let of = |(of, point): &&(usize, RawPoint)| *of == source && (start..end).contains(&point.t);
        let mut points: Vec<RawPoint> =
            self.arrived.iter().filter(of).map(|(_, point)| point.clone()).collect();
        points.sort_by_key(|point| point.t);
        points
    }

    /// The same in steps.
    pub(super) fn steps(&self, source: usize, start: i64, end: i64, step: i64) -> BTreeMap<i64, Summary> {
        let mut steps = Steps::default();
        for point in self.points(source, start, end) {
            steps.add(step_of(point.t, step), point.into_summary());
        }
        steps.0
    }
}
