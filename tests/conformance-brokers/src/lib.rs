//! The test brokers as what the conformance suite runs against: a backend's `tests/conformance.rs` is then a few lines.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! # fn backend() -> Box<dyn messaging::Backend> { unimplemented!() }
//! # struct KafkaBackend;
//! # #[async_trait::async_trait]
//! # impl messaging::Backend for KafkaBackend {
//! #     fn schemes(&self) -> &'static [&'static str] { &["kafka"] }
//! #     async fn connect(&self, _: &messaging::Address) -> Result<std::sync::Arc<dyn messaging::Broker>, messaging::Error> {
//! #         unimplemented!()
//! #     }
//! # }
//! fn main() -> ExitCode {
//!     messaging_conformance::main(conformance_brokers::kafka(KafkaBackend).build())
//! }
//! ```

#![warn(missing_docs)]

use std::{ops::Deref, sync::Arc};

use async_trait::async_trait;
use messaging::{Backend, BoxError};
use messaging_conformance::{Harm, Host, Hosts, Need, Pace, Server, UrlFactory, UrlFactoryBuilder, Way};
use test_brokers::{Broker, Direction, Ending, Faults, Kafka, Kind, Line, RabbitMq, Redis, Route, is_ci};

/// A factory over Apache Kafka, a single node.
pub fn kafka(backend: impl Backend + 'static) -> UrlFactoryBuilder {
    // Faults on the way are tested at the same time, each on a way of its own.
    let start = || async { Ok(Kafka::options().routes(6).start().await?) };
    over(Kind::Kafka, backend, start).pace(Pace::default().frozen_may_keep())
}

/// A factory over Redis.
pub fn redis(backend: impl Backend + 'static) -> UrlFactoryBuilder {
    over(Kind::Redis, backend, || async { Ok(Redis::start_new().await?) })
}

/// A factory over RabbitMQ.
pub fn rabbitmq(backend: impl Backend + 'static) -> UrlFactoryBuilder {
    over(Kind::RabbitMq, backend, || async { Ok(RabbitMq::start_new().await?) })
}

/// A factory over whatever `start` starts, for brokers with settings of their own.
pub fn over<S, F, B>(kind: Kind, backend: impl Backend + 'static, start: S) -> UrlFactoryBuilder
where
    S: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<B, BoxError>> + Send + 'static,
    B: Deref<Target = Broker> + Send + Sync + 'static,
{
    let builder = UrlFactory::builder(kind.name(), backend, Start(start)).missing(missing(kind));
    let given = std::env::var(kind.variable()).is_ok_and(|url| !url.is_empty());
    let builder = if given { builder.lacks(Need::Server, "it was given, and is not ours to harm") } else { builder };
    if given && kind == Kind::Kafka {
        builder.lacks(Need::Route, "it was given, and tells its clients to come straight to it")
    } else {
        builder
    }
}

/// Why this machine has no such broker. With `CI=true` that is none of the suite's business: its tests fail then.
fn missing(kind: Kind) -> Option<String> {
    if is_ci() {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let line = runtime.block_on(Line::gather(kind));
    line.error().map(ToString::to_string)
}

struct Start<S>(S);

#[async_trait]
impl<S, F, B> Hosts for Start<S>
where
    S: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<B, BoxError>> + Send + 'static,
    B: Deref<Target = Broker> + Send + Sync + 'static,
{
    async fn start(&self) -> Result<Arc<dyn Host>, BoxError> {
        let broker = (self.0)().await?;
        let processes = broker.nodes().is_ok();
        Ok(Arc::new(Started { broker, processes }))
    }
}

struct Started<B> {
    broker: B,
    /// They are ours.
    processes: bool,
}

#[async_trait]
impl<B> Host for Started<B>
where
    B: Deref<Target = Broker> + Send + Sync + 'static,
{
    fn url(&self) -> String {
        self.broker.url()
    }

    fn server(&self) -> Option<&dyn Server> {
        self.processes.then_some(self as &dyn Server)
    }

    async fn way(&self) -> Result<Option<Box<dyn Way>>, BoxError> {
        if self.broker.kind() == Kind::Kafka && !self.processes {
            return Ok(None);
        }
        Ok(Some(Box::new(Proxied(self.broker.route().await?))))
    }
}

#[async_trait]
impl<B> Server for Started<B>
where
    B: Deref<Target = Broker> + Send + Sync + 'static,
{
    async fn stop(&self) -> Result<(), BoxError> {
        Ok(self.broker.stop().await?)
    }

    async fn kill(&self) -> Result<(), BoxError> {
        Ok(self.broker.kill().await?)
    }

    async fn start(&self) -> Result<(), BoxError> {
        Ok(self.broker.start().await?)
    }

    async fn pause(&self) -> Result<(), BoxError> {
        Ok(self.broker.pause().await?)
    }

    async fn resume(&self) -> Result<(), BoxError> {
        Ok(self.broker.resume().await?)
    }

    async fn restore(&self) -> Result<(), BoxError> {
        for node in self.broker.nodes()? {
            if node.pid().is_none() {
                node.start().await?;
            } else {
                // An error says that it is not frozen, which is what is wanted.
                let _ = node.resume().await;
            }
        }
        Ok(())
    }
}

struct Proxied(Route);

impl Way for Proxied {
    fn url(&self) -> String {
        self.0.url()
    }

    fn harm(&self, harm: Harm) {
        let faults = match harm {
            Harm::Reset => return self.0.reset(),
            Harm::MuteBroker => Faults::new().stall(Direction::ToClient),
            Harm::MuteClients => Faults::new().stall(Direction::ToBroker),
            Harm::BlackHole => Faults::new().black_hole(),
            Harm::Slow(latency) => Faults::new().latency(Direction::Both, latency),
            Harm::CutAnswersAfter(bytes) => Faults::new().cut_after(Direction::ToClient, bytes, Ending::Reset),
        };
        self.0.set(&faults);
    }

    fn heal(&self) {
        self.0.heal();
    }
}
