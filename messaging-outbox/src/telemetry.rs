//! The names and handles of what the relay measures.

use metrics::{Counter, Gauge, counter, gauge};

/// Events that are committed and not with the broker; counted up to 100,000.
pub const PENDING: &str = "messaging_outbox_pending";
/// Events that are to be published later.
pub const DELAYED: &str = "messaging_outbox_delayed";
/// Events that were given up and wait for somebody to retry or discard them.
pub const DEAD_ROWS: &str = "messaging_outbox_dead";
/// The age of the oldest event that is not with the broker, in seconds.
pub const OLDEST_SECONDS: &str = "messaging_outbox_oldest_seconds";
/// Events that this relay published.
pub const RELAYED: &str = "messaging_outbox_relayed_total";
/// Refusals of the broker.
pub const REFUSED: &str = "messaging_outbox_refused_total";
/// Events that this relay gave up.
pub const DEAD: &str = "messaging_outbox_dead_total";

/// Handles of one relay. The gauges are set by the relay that has the housekeeping.
pub(crate) struct RelayMeter {
    pub(crate) pending: Gauge,
    pub(crate) delayed: Gauge,
    pub(crate) dead_rows: Gauge,
    pub(crate) oldest: Gauge,
    pub(crate) relayed: Counter,
    pub(crate) refused: Counter,
    pub(crate) dead: Counter,
}

impl RelayMeter {
    pub(crate) fn new() -> Self {
        Self {
            pending: gauge!(PENDING),
            delayed: gauge!(DELAYED),
            dead_rows: gauge!(DEAD_ROWS),
            oldest: gauge!(OLDEST_SECONDS),
            relayed: counter!(RELAYED),
            refused: counter!(REFUSED),
            dead: counter!(DEAD),
        }
    }
}
