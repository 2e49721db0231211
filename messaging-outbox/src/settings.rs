//! [`OutboxSettings`] and [`RelaySettings`]: every number that can be changed, with its default.

use std::time::Duration;

use messaging::{Error, ErrorKind, Subscription};

/// How an [`Outbox`](crate::Outbox) uses its database.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboxSettings {
    /// Into how many shards the keys are spread: how many relays can share the work at most. Fixed when the tables are
    /// first used: `None`, the default, takes what is there, or 16.
    pub shards: Option<u32>,
    /// How long the start of a transaction may wait: for a connection, and on SQLite for the writers before it; 30 s by
    /// default.
    pub begin_deadline: Duration,
    /// How long a COMMIT may take, and the statement before it; 10 s by default.
    pub commit_deadline: Duration,
    /// After how long PostgreSQL ends a transaction in which nothing happens, so that a frozen process holds no row for
    /// longer; 5 s by default. Nothing that a handler awaits between two statements may take longer.
    pub idle_in_transaction: Duration,
    /// How long a statement of a transaction may wait for a lock on PostgreSQL; 5 s by default.
    pub lock_timeout: Duration,
    /// How many events one transaction may record; 10,000 by default.
    pub max_events: usize,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            shards: None,
            begin_deadline: Duration::from_secs(30),
            commit_deadline: Duration::from_secs(10),
            idle_in_transaction: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
            max_events: 10_000,
        }
    }
}

impl OutboxSettings {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.shards.is_some_and(|shards| !(1..=1_024).contains(&shards)) {
            return Err(wrong("shards must lie between 1 and 1024"));
        }
        Ok(())
    }
}

/// What becomes of later events of a key after one was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDead {
    /// They are published: the key has a gap.
    #[default]
    Skip,
    /// They wait until somebody retries or discards the dead one.
    HoldKey,
}

/// How a relay works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RelaySettings {
    /// How long a shard belongs to a relay that has gone silent; 8 s by default.
    pub lease: Duration,
    /// How long the broker may take to confirm; 5 s by default. Nothing is sent unless the lease lasts longer.
    pub publish_deadline: Duration,
    /// How many rows are read, sent and deleted at once; 1,000 by default.
    pub batch: usize,
    /// How many batches of a shard may be unconfirmed at once; 2 by default. Of one key there is one event at most.
    pub in_flight: usize,
    /// The pause after an event was refused first; 100 ms by default. It doubles with each further refusal.
    pub backoff: Duration,
    /// The longest pause of an event that is refused; 30 s by default.
    pub max_backoff: Duration,
    /// After how many refusals an event is given up; 20 by default, about six minutes. A broker that cannot be reached
    /// refuses nothing.
    pub max_attempts: u32,
    /// What follows an event that was given up.
    pub on_dead: OnDead,
    /// How often the database is asked for what other processes wrote, while there is some; 5 ms by default.
    pub poll: Duration,
    /// How slow that asking becomes while there is none; 50 ms by default.
    pub max_poll: Duration,
    /// How long the inbox remembers; 8 days by default. Longer than the broker retains messages, or an old one that comes
    /// again is handled again.
    pub inbox_window: Duration,
    /// How often gauges are set and old rows are cleaned up; 5 s by default.
    pub housekeeping: Duration,
    /// Groups whose queues must exist before the first publish, where the broker keeps messages only for groups that it
    /// knows (RabbitMQ).
    pub declare: Vec<Subscription>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(8),
            publish_deadline: Duration::from_secs(5),
            batch: 1_000,
            in_flight: 2,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            max_attempts: 20,
            on_dead: OnDead::default(),
            poll: Duration::from_millis(5),
            max_poll: Duration::from_millis(50),
            inbox_window: Duration::from_secs(8 * 24 * 3600),
            housekeeping: Duration::from_secs(5),
            declare: Vec::new(),
        }
    }
}

impl RelaySettings {
    /// How often leases are renewed.
    pub(crate) fn renewal(&self) -> Duration {
        self.lease / 8
    }

    /// How long a lease counts after its renewal was sent, by our own clock.
    pub(crate) fn valid_for(&self) -> Duration {
        self.lease - self.lease / 16
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.lease < Duration::from_millis(200) {
            return Err(wrong("lease must be at least 200 ms"));
        }
        if self.publish_deadline.is_zero() || self.publish_deadline * 3 > self.lease * 2 {
            return Err(wrong("publish_deadline must be longer than zero, and at most two thirds of the lease"));
        }
        let counts =
            [("batch", self.batch), ("in_flight", self.in_flight), ("max_attempts", self.max_attempts as usize)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(wrong(format!("{name} must be at least 1")));
        }
        if self.poll.is_zero() || self.max_poll < self.poll {
            return Err(wrong("poll must be longer than zero, and max_poll no shorter"));
        }
        if self.housekeeping.is_zero() {
            return Err(wrong("housekeeping must be longer than zero"));
        }
        Ok(())
    }
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("outbox: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_wrong_setting_is_named() {
        RelaySettings::default().validate().unwrap();
        OutboxSettings::default().validate().unwrap();
        let error = |settings: RelaySettings| settings.validate().unwrap_err().to_string();
        assert!(error(RelaySettings { batch: 0, ..RelaySettings::default() }).contains("batch"));
        let late = RelaySettings { publish_deadline: Duration::from_secs(8), ..RelaySettings::default() };
        assert!(error(late).contains("publish_deadline"));
        let many = OutboxSettings { shards: Some(0), ..OutboxSettings::default() };
        assert!(many.validate().unwrap_err().to_string().contains("shards"));
    }
}
