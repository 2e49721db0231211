//! Scenarios on a real Redis, which each test starts for itself.

mod delivery;
mod faults;
mod group;

/// A Redis of this test's own; `None` if this machine cannot have one.
async fn redis() -> Option<test_brokers::Redis> {
    show_log();
    test_brokers::or_skip(test_brokers::Redis::start_new().await)
}

/// Shows the library's own log where a test is run with `RUST_LOG`.
fn show_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
