//! RabbitMQ for the `messaging` crate, over [`lapin`].
//!
//! A topic is a direct exchange; of each partition every group has a durable queue, bound by the partition's number. A
//! message goes to the partition of its key, the same on every backend, and is confirmed once every group's queue has it.
//! Members of a group announce themselves to each other and share the partitions out; each consumes its own, and single
//! active consumers see to it that a partition has one owner even while they disagree.
//!
//! What RabbitMQ cannot do: a new group gets what is published after it was declared, so that a topic without any group
//! takes no message; topics cannot be read again. Dead letters can: they are kept for the group [`OPERATORS`].
//!
//! Read on in `broker`, then `publisher` or `session`; [`RabbitMqConfig`] lists the options.
//!
//! # Features
//!
//! - `tls`: `amqps://`, through rustls with the ring provider.

#![warn(missing_docs)]

mod acks;
mod admin;
mod announcement;
mod announcer;
mod broker;
mod config;
mod connected;
mod consumer;
mod error;
mod feed;
mod inflow;
mod inquiry;
mod joined;
mod link;
mod membership;
mod names;
mod pace;
mod partitions;
mod publisher;
mod session;
mod tls;
mod topology;
mod wire;

pub use broker::{RabbitMqBackend, RabbitMqBroker};
pub use config::{DeliveryLimit, QueueType, RabbitMqConfig, Tls};
pub use names::OPERATORS;
