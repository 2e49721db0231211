//! [`MemoryBuilder`]: the options of a bus, in code and in its address.

use std::time::Duration;

use messaging::{Address, Capabilities, Error, ErrorKind, MessagingOptions, Name};

use crate::MemoryBroker;

/// What a dead letter may need beyond its message.
const DEAD_LETTER_ROOM: usize = 8 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) partitions: u32,
    pub(crate) retain: usize,
    pub(crate) max_messages: Option<usize>,
    pub(crate) max_message_bytes: usize,
    pub(crate) lease: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: 16,
            retain: 10_000,
            max_messages: None,
            max_message_bytes: 16 * 1024 * 1024 - DEAD_LETTER_ROOM,
            lease: None,
        }
    }
}

impl Settings {
    /// The length beyond which a log is trimmed.
    #[inline]
    pub(crate) fn trim_at(&self) -> usize {
        self.retain.min(self.max_messages.unwrap_or(usize::MAX))
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::none(self.max_message_bytes);
        capabilities.retains_history = true;
        capabilities.fencing_token = true;
        capabilities.fenced_dead_letter = true;
        capabilities.partitions_can_grow = true;
        capabilities.settles_publishes = true;
        capabilities.gates_on_validity = self.lease.is_some();
        capabilities
    }

    /// The largest dead letter.
    pub(crate) fn max_letter_bytes(&self) -> usize {
        self.max_message_bytes.saturating_add(DEAD_LETTER_ROOM)
    }
}

/// The options of a bus, by [`MemoryBroker::builder`]. The same can stand in its address: `memory:?partitions=4`.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct MemoryBuilder {
    settings: Settings,
    messaging: MessagingOptions,
}

impl MemoryBuilder {
    /// How many partitions a topic gets; 16 by default. Option `partitions`.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.settings.partitions = partitions;
        self
    }

    /// How many messages a partition keeps although every group has settled them, the newest; 10,000 by default. What
    /// a group has not settled is kept beside them. Option `retain`.
    pub fn retain(mut self, messages: usize) -> Self {
        self.settings.retain = messages;
        self
    }

    /// How many messages a partition keeps at most, settled or not; no such bound by default. What a group had not got
    /// by then is reported to it as lost. Option `max_messages`.
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.settings.max_messages = Some(messages);
        self
    }

    /// The largest message, in bytes of key, payload and headers; 16 MiB less 8 KiB by default. A dead letter may have
    /// 8 KiB more. Option `max_message_bytes`.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_message_bytes = bytes;
        self
    }

    /// Gives each consumer its partitions for this long at a time, as a broker does; renewed by itself well before.
    /// Without it a consumer has them until it goes. Option `lease`.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = Some(lease);
        self
    }

    /// The source of what is published by [`MemoryBroker::messaging`] (CloudEvents `source`).
    pub fn source(mut self, source: impl Into<Name>) -> Self {
        self.messaging.source = source.into();
        self
    }

    /// Makes the bus.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the option that is wrong.
    pub fn build(self) -> Result<MemoryBroker, Error> {
        let settings = &self.settings;
        let fault = if settings.partitions == 0 {
            "partitions must be at least 1"
        } else if settings.max_messages == Some(0) {
            "max_messages must be at least 1"
        } else if settings.max_message_bytes == 0 {
            "max_message_bytes must be at least 1"
        } else if settings.lease.is_some_and(|lease| lease < Duration::from_millis(10)) {
            "lease must be at least 10 ms"
        } else {
            return Ok(MemoryBroker::with(self.settings, self.messaging));
        };
        Err(Error::new(ErrorKind::Config, format!("memory: {fault}")))
    }

    /// The options of an address; what it does not say keeps its default.
    pub(crate) fn from_address(address: &Address) -> Result<Self, Error> {
        let stray = [("host", !address.hosts.is_empty()), ("path", !address.path.is_empty())];
        if let Some((what, _)) = stray.into_iter().find(|(_, there)| *there) {
            let message = format!("{address}: the in-process bus has no {what}; write memory: or memory:?partitions=4");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let mut options = address.options();
        let mut builder = Self::default();
        let settings = &mut builder.settings;
        settings.partitions = options.take("partitions")?.unwrap_or(settings.partitions);
        settings.retain = options.take("retain")?.unwrap_or(settings.retain);
        settings.max_messages = options.take("max_messages")?;
        settings.max_message_bytes = options.take("max_message_bytes")?.unwrap_or(settings.max_message_bytes);
        settings.lease = options.take_duration("lease")?;
        options.finish()?;
        Ok(builder)
    }
}
