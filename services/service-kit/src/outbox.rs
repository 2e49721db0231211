//! The outbox in a service's database: events that are recorded beside the service's rows, and the relay that publishes
//! them.

use std::time::Duration;

use messaging::{Messaging, MessagingConfig};
pub use messaging_outbox::{Outbox, RelaySettings, Tx};
use messaging_outbox::{OutboxSettings, Pool};

use crate::BoxFuture;
use crate::database::Database;
use crate::process::StartError;

/// How long a process that stops waits for what it recorded to be with the broker. What is left then stays in the
/// database, for another replica or for the next start.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How long the relay may take to give its shards back, once it sends nothing more.
const STOP_DEADLINE: Duration = Duration::from_secs(6);

/// Opens the outbox of a database; once per process, since its transactions queue for SQLite's one writer.
///
/// # Errors
/// The database does not answer, or its tables of the outbox cannot be migrated.
pub fn open<'a>(database: &'a Database, messaging: &'a Messaging) -> BoxFuture<'a, Result<Outbox, StartError>> {
    Box::pin(async move { Ok(Outbox::open(Pool::from(database), messaging, OutboxSettings::default()).await?) })
}

/// The same before there is a connection to the broker of this configuration, which is to be attached later.
///
/// # Errors
/// As [`open`].
pub fn open_without_broker<'a>(
    database: &'a Database,
    messaging: &'a MessagingConfig,
) -> BoxFuture<'a, Result<Outbox, StartError>> {
    Box::pin(async move {
        let encoder = messaging.encoder();
        Ok(Outbox::open_without_broker(Pool::from(database), encoder, OutboxSettings::default()).await?)
    })
}

/// The running relay of an outbox, stopped gracefully.
#[derive(Debug)]
pub struct Relay {
    outbox: Outbox,
    relay: messaging_outbox::Relay,
}

impl Relay {
    /// Starts it. On a broker that keeps events for groups only that it knows, the groups are to be joined first.
    ///
    /// # Errors
    /// A setting is wrong, or the broker's publisher cannot be opened.
    pub fn start(outbox: &Outbox, settings: RelaySettings) -> BoxFuture<'_, Result<Self, StartError>> {
        Box::pin(async move {
            let relay = outbox.start_relay(settings).await?;
            Ok(Self { outbox: outbox.clone(), relay })
        })
    }

    /// Waits until what this process recorded is with the broker, for as long as the deadline lets it.
    pub fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Ok(messaging) = self.outbox.messaging() else { return };
            if let Err(error) = messaging.settled(DRAIN_DEADLINE).await {
                tracing::info!(%error, "stopping with recorded events: the next relay publishes them");
            }
        })
    }

    /// Publishes nothing more, waits for the broker's confirms, and leaves the rest to other relays.
    pub fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(async {
            if let Err(error) = self.relay.shutdown(STOP_DEADLINE).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the relay did not stop cleanly");
            }
        })
    }
}
