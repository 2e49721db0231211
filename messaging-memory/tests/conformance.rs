//! The delivery contract on the in-process bus: without leases, as it is by default, and with them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::{process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{BoxError, Broker, Error, ErrorKind, Position};
use messaging_conformance::{Cluster, Factory, Need, Sever};
use messaging_memory::{ConsumerId, MemoryBroker};

fn main() -> ExitCode {
    messaging_conformance::main(Buses { lease: Duration::from_secs(2) })
}

/// A bus per test.
struct Buses {
    lease: Duration,
}

struct Bus(MemoryBroker);

#[async_trait]
impl Factory for Buses {
    fn name(&self) -> &str {
        "memory"
    }

    fn lacks(&self) -> Vec<(Need, &'static str)> {
        vec![
            (Need::Server, "the bus ends with its process"),
            (Need::Route, "the bus is reached without a network"),
            (Need::Processes, "the bus is reached from its own process alone"),
        ]
    }

    async fn shared(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        Ok(Arc::new(Bus(MemoryBroker::builder().lease(self.lease).build()?)))
    }

    async fn own(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        self.shared().await
    }

    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error> {
        Err(Error::new(ErrorKind::Unsupported, format!("{url}: no other process reaches a bus")))
    }
}

#[async_trait]
impl Cluster for Bus {
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error> {
        Ok(self.0.messaging().broker().clone())
    }

    fn sever(&self, group: &str) -> Option<Box<dyn Sever>> {
        let newest = *self.0.consumers(group).last()?;
        Some(Box::new(Line { bus: self.0.clone(), consumer: newest }))
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<bool, BoxError> {
        self.0.grow_topic(topic, partitions)?;
        Ok(true)
    }

    async fn forget(&self, topic: &str, partition: u32, first: Position) -> Result<bool, BoxError> {
        self.0.forget(topic, partition, first)?;
        Ok(true)
    }
}

/// What connects a consumer with its bus.
struct Line {
    bus: MemoryBroker,
    consumer: ConsumerId,
}

impl Sever for Line {
    fn sever(&self) {
        self.bus.silence(self.consumer).expect("the bus has leases and the consumer is there");
    }

    fn restore(&self) {
        self.bus.restore(self.consumer).expect("the consumer is there");
    }
}
