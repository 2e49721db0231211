//! The names and handles of what is measured. Handles are made once per group, topic and handler, after a recorder is
//! installed; nothing looks a metric up per message.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::name::Name;

/// Messages confirmed, rejected or unknown, by `outcome`.
pub const PUBLISHED: &str = "messaging_published_total";
/// Deliveries taken in from the broker.
pub const DELIVERED: &str = "messaging_delivered_total";
/// Deliveries handled.
pub const HANDLED: &str = "messaging_handled_total";
/// Failed runs that were retried, by `kind`.
pub const RETRIED: &str = "messaging_retried_total";
/// Deliveries dead-lettered.
pub const DEAD_LETTERED: &str = "messaging_dead_lettered_total";
/// Deliveries whose event name has no handler.
pub const SKIPPED: &str = "messaging_skipped_total";
/// Deliveries whose effects were there already.
pub const DUPLICATES: &str = "messaging_duplicates_total";
/// Messages that were gone before the group got them.
pub const LOST: &str = "messaging_lost_total";
/// Deliveries between intake and settlement.
pub const IN_FLIGHT: &str = "messaging_in_flight";
/// Partitions that cannot go on because a dead letter is refused for good.
pub const STUCK: &str = "messaging_stuck_partitions";
/// How long a handler ran, in seconds.
pub const HANDLER_SECONDS: &str = "messaging_handler_seconds";
/// From an event's time to the end of its handling, in seconds.
pub const AGE_SECONDS: &str = "messaging_age_seconds";

/// What is measured of one route of a group.
#[derive(Clone)]
pub(crate) struct RouteMeter {
    pub(crate) handled: Counter,
    pub(crate) retried_transient: Counter,
    pub(crate) retried_infrastructure: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) age: Histogram,
}

impl RouteMeter {
    pub(crate) fn new(group: &Name, handler: &Name) -> Self {
        let labels = || [("group", group.to_string()), ("handler", handler.to_string())];
        let retried = |kind: &str| {
            let [group, handler] = labels();
            counter!(RETRIED, &[group, handler, ("kind", kind.to_owned())])
        };
        Self {
            handled: counter!(HANDLED, &labels()),
            retried_transient: retried("transient"),
            retried_infrastructure: retried("infrastructure"),
            dead_lettered: counter!(DEAD_LETTERED, &labels()),
            duplicates: counter!(DUPLICATES, &labels()),
            seconds: histogram!(HANDLER_SECONDS, &labels()),
            age: histogram!(AGE_SECONDS, &labels()),
        }
    }
}

/// What is measured of one group.
pub(crate) struct GroupMeter {
    pub(crate) delivered: Counter,
    pub(crate) skipped: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) stuck: Gauge,
}

impl GroupMeter {
    pub(crate) fn new(group: &Name) -> Self {
        let labels = [("group", group.to_string())];
        Self {
            delivered: counter!(DELIVERED, &labels),
            skipped: counter!(SKIPPED, &labels),
            in_flight: gauge!(IN_FLIGHT, &labels),
            stuck: gauge!(STUCK, &labels),
        }
    }
}

/// Reports messages that were gone before the group got them.
pub(crate) fn report_lost(group: &Name, topic: &Name, partition: u32, count: Option<u64>) {
    let labels = [("group", group.to_string()), ("topic", topic.to_string()), ("partition", partition.to_string())];
    counter!(LOST, &labels).increment(count.unwrap_or(0));
}

/// How publishes ended.
pub(crate) struct PublishMeter {
    pub(crate) confirmed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) unknown: Counter,
}

impl PublishMeter {
    pub(crate) fn new() -> Self {
        let outcome = |outcome: &'static str| counter!(PUBLISHED, "outcome" => outcome);
        Self { confirmed: outcome("confirmed"), rejected: outcome("rejected"), unknown: outcome("unknown") }
    }
}
