//! Every backend this program was built with, as the list that
//! [`configure_messaging`](messaging::configure_messaging) chooses from.
//!
//! An explicit list behind cargo features: a service that is built with one backend compiles one client, and nothing
//! registers itself behind its back.
//!
//! # Features
//!
//! - `memory` (default): the bus in the process, `memory:`.
//! - `kafka`: Apache Kafka, `kafka://host:9092`.
//! - `redis`: Redis Streams, `redis://host:6379`.
//! - `rabbitmq`: RabbitMQ, `amqp://host:5672`.
//! - `tls`: TLS for those brokers that are on, and SASL for Kafka.

#![warn(missing_docs)]

use messaging::Backend;

/// The backends whose features are on.
#[must_use]
pub fn backends() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "memory")]
        Box::new(messaging_memory::MemoryBackend),
        #[cfg(feature = "kafka")]
        Box::new(messaging_kafka::KafkaBackend),
        #[cfg(feature = "redis")]
        Box::new(messaging_redis::RedisBackend),
        #[cfg(feature = "rabbitmq")]
        Box::new(messaging_rabbitmq::RabbitMqBackend),
    ]
}
