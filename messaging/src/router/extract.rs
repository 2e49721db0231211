//! [`FromDelivery`]: what a handler's arguments can be, and how each is taken from a delivery.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    capability::Capability,
    codec::Codecs,
    delivery::{Delivery, Fence, Position},
    error::HandlerError,
    event::Event,
    headers::Headers,
    message::Message,
    name::Name,
    telemetry::RouteMeter,
};

/// A handler's argument, taken from the delivery and the [`Scope`] of the handler.
///
/// ```
/// use messaging::{Delivery, FromDelivery, HandlerError, Scope};
///
/// /// The tenant, from a header.
/// struct Tenant(String);
///
/// impl<S> FromDelivery<S> for Tenant {
///     fn from_delivery(delivery: &Delivery, _: &Scope<S>) -> Result<Self, HandlerError> {
///         let tenant = delivery.message.headers.get_str("tenant");
///         tenant.map(|name| Tenant(name.to_owned())).ok_or_else(|| HandlerError::permanent("header `tenant` is missing"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a message handler",
    label = "cannot be taken from a delivery",
    note = "arguments are `Event<T>`, `Json<T>`, `State<S>`, `Headers`, `Bytes`, `Delivery`, `Attempt`, `Position`, `Fence`, `Cancellation`, `Option` of one of these, or a type of yours that implements `FromDelivery`",
    note = "`Event<T>` and `Json<T>` need `T: serde::de::DeserializeOwned`; `State<T>` needs `T: FromRef<S>` for the router's state `S`",
    note = "a resource such as a transaction is borrowed, `&mut R`, and comes last"
)]
pub trait FromDelivery<S>: Sized {
    /// Takes the argument.
    ///
    /// # Errors
    /// Why it cannot be taken; goes through the group's failure policy as if the handler had reported it.
    fn from_delivery(delivery: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError>;

    /// Capabilities of the backend that the argument relies on; checked at start.
    #[must_use]
    fn requires() -> Vec<Capability> {
        Vec::new()
    }
}

/// What surrounds a handler: the router's state, its group, and what its arguments are decoded with.
pub struct Scope<S> {
    /// The router's state.
    pub state: Arc<S>,
    /// The group.
    pub group: Name,
    /// Decodes payloads by content type.
    pub codecs: Codecs,
    pub(crate) timeout: Duration,
    pub(crate) stopping: CancellationToken,
    pub(crate) meter: RouteMeter,
}

impl<S> Scope<S> {
    /// Counts a delivery whose effects were there already.
    pub(crate) fn duplicate(&self) {
        self.meter.duplicates.increment(1);
    }
}

impl<S> std::fmt::Debug for Scope<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").field("group", &self.group).finish_non_exhaustive()
    }
}

/// Gives a part of the router's state to [`State`], and to resources such as a transaction.
///
/// For a class of handlers (`#[consumer]`) the state is the value of the class itself:
///
/// ```
/// # use messaging::FromRef;
/// # #[derive(Clone)]
/// # struct Outbox;
/// struct Notifications {
///     outbox: Outbox,
/// }
///
/// impl FromRef<Notifications> for Outbox {
///     fn from_ref(state: &Notifications) -> Self {
///         state.outbox.clone()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the state `{S}` does not hold a `{Self}`",
    label = "needs a `{Self}` from the state `{S}`",
    note = "implement `FromRef<{S}>` for `{Self}`, or give the router a state that does"
)]
pub trait FromRef<S> {
    /// Clones the part out of the whole.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<T: DeserializeOwned, S> FromDelivery<S> for Event<T> {
    /// Decodes the payload by its content type. A message without an envelope is read too; its event has no id.
    #[inline]
    fn from_delivery(delivery: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        let data = scope.codecs.decode(&delivery.message)?;
        Ok(Self::received(data, delivery))
    }
}

/// The payload decoded by its content type, without the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S> FromDelivery<S> for Json<T> {
    #[inline]
    fn from_delivery(delivery: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(Self(scope.codecs.decode(&delivery.message)?))
    }
}

impl<T> Deref for Json<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The router's state, or a part of it.
#[derive(Debug, Clone, Copy)]
pub struct State<T>(pub T);

/// The whole state of the router, shared instead of cloned.
#[derive(Debug)]
pub struct Shared<S>(pub Arc<S>);

impl<S> FromDelivery<S> for Shared<S> {
    fn from_delivery(_: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(Self(scope.state.clone()))
    }
}

impl<S> Deref for Shared<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S, T: FromRef<S>> FromDelivery<S> for State<T> {
    fn from_delivery(_: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(Self(T::from_ref(&scope.state)))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Which run of the handler on this message it is, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<S> FromDelivery<S> for Attempt {
    fn from_delivery(delivery: &Delivery, _: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(Self(delivery.attempt))
    }
}

/// Tells a long-running handler that the group is stopping, so that it can end early.
#[derive(Debug, Clone)]
pub struct Cancellation(CancellationToken);

impl Cancellation {
    pub(super) fn of<S>(scope: &Scope<S>) -> Self {
        Self(scope.stopping.clone())
    }

    /// Waits until the group stops. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the group is stopping.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl<S> FromDelivery<S> for Cancellation {
    fn from_delivery(_: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(Self::of(scope))
    }
}

macro_rules! infallible {
    ($($argument:ty: |$delivery:ident| $take:expr;)*) => {$(
        impl<S> FromDelivery<S> for $argument {
            #[inline]
            fn from_delivery($delivery: &Delivery, _: &Scope<S>) -> Result<Self, HandlerError> {
                Ok($take)
            }
        }
    )*};
}

infallible! {
    Delivery: |delivery| delivery.clone();
    Arc<Message>: |delivery| delivery.message.clone();
    Headers: |delivery| delivery.message.headers.clone();
    Bytes: |delivery| delivery.message.payload.clone();
    Position: |delivery| delivery.position;
}

impl<S> FromDelivery<S> for Fence {
    fn from_delivery(delivery: &Delivery, _: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(delivery.fence())
    }

    fn requires() -> Vec<Capability> {
        vec![Capability::FencingToken]
    }
}

impl<S, T: FromDelivery<S>> FromDelivery<S> for Option<T> {
    /// `None` where the argument cannot be taken.
    fn from_delivery(delivery: &Delivery, scope: &Scope<S>) -> Result<Self, HandlerError> {
        Ok(T::from_delivery(delivery, scope).ok())
    }
}
