//! The example that goes from broker to broker, on real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use test_brokers::{Kafka, RabbitMq, Redis, or_skip};

#[tokio::test]
async fn the_same_service_runs_on_each_broker() {
    let (kafka, redis, rabbitmq) = (Kafka::shared().await, Redis::shared().await, RabbitMq::shared().await);
    let brokers =
        [or_skip(kafka).map(|it| it.url()), or_skip(redis).map(|it| it.url()), or_skip(rabbitmq).map(|it| it.url())];
    let urls: Vec<String> = ["memory:".to_owned()].into_iter().chain(brokers.into_iter().flatten()).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_another_broker")).args(&urls).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{lines}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines.lines().filter(|line| line.ends_with(": order Some(7)")).count(), urls.len(), "{lines}");
}
