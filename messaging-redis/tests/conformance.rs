//! The delivery contract on a real Redis.

use std::process::ExitCode;

use messaging::{BoxError, Position};
use messaging_redis::RedisBackend;

fn main() -> ExitCode {
    messaging_conformance::main(conformance_brokers::redis(RedisBackend).forget(forget).build())
}

/// Trims a partition, as retention that drops what is unread.
async fn forget(url: String, topic: String, partition: u32, first: Position) -> Result<(), BoxError> {
    let mut conn = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut trim = redis::cmd("XTRIM");
    trim.arg(format!("{{{topic}:{partition}}}")).arg("MINID").arg("=");
    trim.arg(format!("{}-{}", first.major, first.minor)).exec_async(&mut conn).await?;
    Ok(())
}
