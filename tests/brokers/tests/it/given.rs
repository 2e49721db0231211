//! Brokers that the environment gives: used as they are, never controlled.

use std::process::Command;

use test_brokers::{Error, Kafka, Redis, or_skip};

/// A role that [`a_given_broker_is_used_but_not_controlled`] plays in a process of its own, as it needs an environment.
#[tokio::test]
#[ignore = "a role of another test"]
async fn role_with_given_addresses() {
    let Ok(url) = std::env::var("TEST_REDIS_URL") else { return };
    let redis = Redis::start_new().await.unwrap();
    assert_eq!(redis.url(), url);
    assert!(matches!(redis.kill().await, Err(Error::NotOurs { variable: "TEST_REDIS_URL", .. })));
    assert!(matches!(redis.nodes(), Err(Error::NotOurs { .. })));
    let own = Redis::options().arg("--maxmemory").arg("1mb").start().await;
    assert!(matches!(own, Err(Error::NotOurs { .. })));

    let route = redis.route().await.unwrap();
    assert_eq!(crate::wire::redis(route.proxies()[0].port(), "PING").unwrap(), "+PONG");

    let dead = Kafka::start_new().await.unwrap_err().to_string();
    assert!(dead.contains("TEST_KAFKA_URL"), "{dead}");
}

#[tokio::test]
async fn a_given_broker_is_used_but_not_controlled() {
    let Some(redis) = or_skip(Redis::start_new().await) else { return };
    let mut role = Command::new(std::env::current_exe().unwrap());
    role.args(["--exact", "given::role_with_given_addresses", "--ignored", "--nocapture"]);
    // Nothing listens on port 1.
    role.env("TEST_REDIS_URL", redis.url()).env("TEST_KAFKA_URL", "kafka://127.0.0.1:1");
    let output = role.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(crate::wire::redis(redis.port(), "PING").unwrap(), "+PONG", "the given broker was ended");
}
