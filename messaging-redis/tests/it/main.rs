//! Scenarios on a real Redis, which each test starts for itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod delivery;
mod faults;
mod group;
mod handover;
mod letters;
mod lost;
mod retention;
mod server;
#[cfg(feature = "tls")]
mod tls;

use test_brokers::Redis;

/// A Redis of this test's own; `None` if this machine cannot have one.
async fn redis() -> Option<Redis> {
    redis_with(&[]).await
}

/// One with these arguments of `redis-server`.
async fn redis_with(arguments: &[&str]) -> Option<Redis> {
    show_log();
    test_brokers::or_skip(Redis::options().args(arguments.iter().copied()).start().await)
}

/// Asks a Redis something directly.
async fn ask<T: redis::FromRedisValue>(redis: &Redis, command: &[&str]) -> T {
    try_ask(redis, command).await.unwrap()
}

async fn try_ask<T: redis::FromRedisValue>(redis: &Redis, command: &[&str]) -> redis::RedisResult<T> {
    let mut conn = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut conn).await
}

/// Shows the library's own log where a test is run with `RUST_LOG`.
fn show_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
