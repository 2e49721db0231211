//! Write a service once, choose its broker by configuration: Kafka, Redis Streams, RabbitMQ or a bus in the process,
//! with the same delivery contract on each.
//!
//! # Features
//!
//! - `macros` (default): `#[derive(EventData)]`, `#[event]`, `#[consumer]`, `#[message_handler]`. Without it events and
//!   routers are written by hand.
#![warn(missing_docs)]

// The macros name this crate by its path, also in its own tests and examples.
extern crate self as messaging;

mod address;
pub mod assignment;
mod broker;
mod capability;
pub mod cloudevents;
mod codec;
mod config;
mod connection;
mod consumer;
mod dead_letter;
mod delivery;
mod engine;
mod envelope;
mod error;
mod event;
mod executor;
pub mod handoff;
mod headers;
mod json;
mod key;
mod message;
mod name;
mod partition;
mod pending;
mod policy;
mod publish;
mod publisher;
mod router;
mod settler;
mod sink;
mod subscription;
pub mod telemetry;
mod time;
mod timestamp;
mod trace;

pub use address::{Address, Options};
pub use broker::{Admin, Broker, GroupProgress, PublisherOptions, TopicInfo, TopicSpec};
pub use capability::{Capabilities, Capability};
pub use codec::{Codec, Codecs, JSON};
pub use config::{MESSAGING_BROKER, MESSAGING_URL, MessagingConfig};
pub use connection::{Backend, Messaging, MessagingOptions, configure_messaging};
pub use consumer::{Consumer, DeadLetterSink, Intake, PartitionHandle, Settlement};
pub use dead_letter::{
    DeadLetter, DeadLetterId, OPERATORS, Shape, dead_letter_topic, mark_replay, replay_topic, replayed_letter,
};
pub use delivery::{Delivery, Fence, Position};
pub use envelope::{Envelope, EventId};
pub use error::{BoxError, Error, ErrorKind, FailureKind, HandlerError};
pub use event::{Event, EventData};
pub use executor::{Health, Running};
pub use headers::{HeaderIter, Headers};
pub use key::EventKey;
pub use message::Message;
pub use name::{Name, validate_name};
pub use partition::partition_for_key;
pub use pending::{NotSettled, PendingWork};
pub use policy::{FailurePolicy, OnDeadLetter, OnUnhandled};
pub use publish::Encoder;
pub use publisher::{Batch, Outcome, Publisher, Receipt, Settling};
pub use router::{
    Admission, Attempt, BatchHandler, BatchOptions, BatchResource, Begun, Cancellation, Ending, Finished, FromDelivery,
    FromRef, FromScope, Handler, HandlerFuture, HandlerService, IntoBatchOutcome, IntoOutcome, IntoRouter, Json, Plain,
    Resource, ResourceContext, Route, Router, Scope, Shared, State, WithResource,
};
pub use settler::{Settler, Unsettled};
pub use sink::{EventSink, HasMessaging};
pub use subscription::{Start, Subscription};
pub use time::{BootClock, Clock, Tick, TokioClock};
pub use timestamp::Timestamp;
pub use trace::{TRACEPARENT, TRACESTATE, TraceContext, TracePropagator};

#[cfg(feature = "macros")]
pub use messaging_macros::{EventData, consumer, debug_handler, event, message_handler, on_event, on_message};

/// A future with its type erased, for what is off the hot path.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// What a handler returns.
pub type Result<T, E = HandlerError> = std::result::Result<T, E>;

#[doc(hidden)]
pub mod __private {
    //! What the macros' code needs; not part of the public interface.
    pub use bytes::BytesMut;
    pub use serde;

    pub use crate::router::checked;

    /// Compiles if a handler can take `A`.
    pub fn argument<A: crate::FromDelivery<S>, S>() {}
}
