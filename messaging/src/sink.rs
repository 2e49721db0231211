//! Where `#[event]` finds the way out: [`EventSink`] among a function's arguments, or [`HasMessaging`] on its `self`.

use serde::Serialize;

use crate::{connection::Messaging, error::Error, event::Event};

/// Takes events out of a function: `&Messaging` publishes them and waits for the confirm; a borrowed transaction may
/// record them instead and publish after its commit.
#[diagnostic::on_unimplemented(
    message = "`{Self}` publishes no events",
    label = "publishes no events",
    note = "what publishes is borrowed: `&Messaging`, or `&mut Tx` of a transaction that records events"
)]
pub trait EventSink {
    /// Publishes the event, or records it to be published.
    ///
    /// # Errors
    /// As [`Messaging::publish`], or what keeps the event from being recorded.
    fn publish_event<T: Serialize + Send>(self, event: Event<T>) -> impl Future<Output = Result<(), Error>> + Send;
}

impl EventSink for &Messaging {
    async fn publish_event<T: Serialize + Send>(self, event: Event<T>) -> Result<(), Error> {
        Messaging::publish_event(self, event).await.map(drop)
    }
}

/// Holds a [`Messaging`]: what an [`#[event]`](crate::event) method publishes with if no argument of its can.
#[diagnostic::on_unimplemented(
    message = "`#[event]` finds nothing to publish with on `{Self}`",
    label = "publishes with what?",
    note = "take `&Messaging` or a transaction (`&mut Tx`) as an argument, or implement `HasMessaging` for `{Self}`, or say `publisher = …` in the attribute"
)]
pub trait HasMessaging {
    /// The connection.
    fn messaging(&self) -> &Messaging;
}
