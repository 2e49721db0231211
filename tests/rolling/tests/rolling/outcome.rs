//! Orders against notifications, and how long it took from the one to the other.

use std::collections::BTreeMap;
use std::time::Duration;

use service_kit::DatabaseError;
use service_kit::database::{FromRecord, Record};

use crate::orders::Posted;

/// A notification's row.
pub(crate) struct Notified {
    order: i64,
    /// In microseconds since 1970.
    at: i64,
}

impl FromRecord for Notified {
    fn from_record(record: &Record<'_>) -> Result<Self, DatabaseError> {
        let body: String = record.get("body")?;
        let order = body.split_once('#').and_then(|(_, rest)| rest.split([' ', '.']).next()?.parse().ok());
        let order = order.unwrap_or_else(|| panic!("a notification of no order: {body}"));
        Ok(Self { order, at: record.get("created_at")? })
    }
}

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) posted: Posted,
    pub(crate) rows: Vec<Notified>,
    /// How often a replica took no connection, so that the request went to another.
    pub(crate) refused: usize,
}

impl Outcome {
    /// A row of the table in the docs.
    pub(crate) fn row(&self, broker: &str, rate: u32, restarts: u32) -> String {
        let answers = Percentiles::of(self.posted.answers.clone());
        let notified = Percentiles::of(self.latencies());
        let (lost, twice) = self.lost_and_twice();
        format!(
            "| {broker} | {rate}/s, {:.0} s | {} | {} | {} | {restarts} | {} | {lost} | {twice} | {answers} | {notified} |",
            self.posted.lasting.as_secs_f64(),
            self.posted.accepted.len(),
            self.posted.failures.len(),
            self.refused,
            self.unordered(),
        )
    }

    /// No accepted request failed, and each order is notified once.
    pub(crate) fn check(&self) {
        let failures = &self.posted.failures;
        assert!(failures.is_empty(), "{} requests failed: {:?}", failures.len(), &failures[..failures.len().min(10)]);
        assert_eq!(self.lost_and_twice(), (0, 0), "orders that were lost, and notifications too many");
        assert_eq!(self.unordered(), 0, "notifications of orders that nobody was told of");
    }

    /// Orders without a notification, and notifications beyond the first.
    fn lost_and_twice(&self) -> (usize, usize) {
        let mut counts: BTreeMap<i64, usize> = self.posted.accepted.keys().map(|id| (*id, 0)).collect();
        for row in &self.rows {
            *counts.entry(row.order).or_default() += 1;
        }
        let lost = counts.values().filter(|count| **count == 0).count();
        let twice = counts.values().map(|count| count.saturating_sub(1)).sum();
        (lost, twice)
    }

    /// Notifications of orders whose customer has no answer.
    fn unordered(&self) -> usize {
        self.rows.iter().filter(|row| !self.posted.accepted.contains_key(&row.order)).count()
    }

    /// From when an order was due to when the row of its notification was written.
    fn latencies(&self) -> Vec<Duration> {
        let since = |row: &Notified| self.posted.accepted.get(&row.order).map(|due| row.at - due);
        let latencies = self.rows.iter().filter_map(since);
        latencies.map(|latency| Duration::from_micros(latency.try_into().unwrap_or_default())).collect()
    }
}

struct Percentiles(Vec<Duration>);

impl Percentiles {
    fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    fn at(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default().as_secs_f64() * 1000.0
    }
}

/// Median, 99th percentile and maximum in milliseconds, as cells of a table.
impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} | {:.0} | {:.0}", self.at(50), self.at(99), self.at(100))
    }
}
