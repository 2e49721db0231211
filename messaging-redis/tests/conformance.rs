//! The delivery contract on a real Redis.

use std::process::ExitCode;

use messaging::{BoxError, Position};
use messaging_redis::RedisBackend;
use test_brokers::{Kind, Redis};

fn main() -> ExitCode {
    // Shows the library's own log where the suite is run with `RUST_LOG`; not on standard output, where members report.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // What is confirmed survives the server's process, also a killed one, only if it was written before: with
    // `everysec` that is put off, for up to two seconds, while a sync of the disk takes long.
    let start = || async { Ok(Redis::options().args(["--appendfsync", "no"]).start().await?) };
    let factory = conformance_brokers::over(Kind::Redis, RedisBackend, start).forget(forget);
    messaging_conformance::main(factory.build())
}

/// Trims a partition, as retention that drops what is unread.
async fn forget(url: String, topic: String, partition: u32, first: Position) -> Result<(), BoxError> {
    let mut conn = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut trim = redis::cmd("XTRIM");
    trim.arg(format!("{{{topic}:{partition}}}")).arg("MINID").arg("=");
    trim.arg(format!("{}-{}", first.major, first.minor)).exec_async(&mut conn).await?;
    Ok(())
}
