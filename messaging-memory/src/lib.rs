//! The in-process bus: partitions, groups, redelivery and faults on demand, behind the same traits as the real brokers.
//!
//! For unit tests, and for programs that are one process. It is not durable: what it holds ends with the process.
//!
//! ```
//! use messaging::{Event, EventData, Router};
//! use messaging_memory::MemoryBroker;
//!
//! #[derive(EventData, serde::Serialize, serde::Deserialize)]
//! #[event(name = "orders.created", topic = "order-events", key = order_id)]
//! struct OrderCreated {
//!     order_id: i64,
//! }
//!
//! async fn on_order_created(event: Event<OrderCreated>) {
//!     println!("order {}", event.data.order_id);
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = MemoryBroker::new();
//! let router = Router::new("printer").topic("order-events").on_event("orders.created", on_order_created);
//! let running = bus.messaging().run_one(router).await?;
//!
//! bus.publish(&OrderCreated { order_id: 7 }).await?;
//! bus.settled().await?;
//! assert_eq!(bus.published::<OrderCreated>()?[0].data.order_id, 7);
//! assert!(bus.dead_letters("printer").is_empty());
//! # drop(running);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod admin;
mod assignment;
mod broker;
mod bus;
mod config;
mod consumer;
mod cursor;
mod effects;
mod faults;
mod foreign;
mod inspect;
mod leases;
mod members;
mod pending;
mod progress;
mod publisher;
mod retention;
mod settling;
mod topics;

pub use broker::{MemoryBackend, MemoryBroker};
pub use config::MemoryBuilder;
pub use faults::Fault;
pub use inspect::{Assignment, ConsumerId, DeadLettered};
