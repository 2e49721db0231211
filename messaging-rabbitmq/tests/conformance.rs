//! The delivery contract on a real RabbitMQ.

use std::{process::ExitCode, time::Duration};

use messaging::{Backend as _, BoxError, PublisherOptions, Subscription};
use messaging_rabbitmq::{OPERATORS, RabbitMqBackend};

fn main() -> ExitCode {
    // `RUST_LOG` shows what its processes do.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    messaging_conformance::main(conformance_brokers::rabbitmq(RabbitMqBackend).keep(keep).build())
}

/// Has a topic keep its messages for those who browse it.
async fn keep(url: String, topic: String) -> Result<(), BoxError> {
    let broker = RabbitMqBackend.connect(&url.parse()?).await?;
    let mut options = PublisherOptions::default();
    options.declare = vec![Subscription::new(OPERATORS, [topic])];
    let publisher = broker.publisher(options).await?;
    publisher.close(Duration::from_secs(5)).await?;
    Ok(broker.close(Duration::from_secs(5)).await?)
}
