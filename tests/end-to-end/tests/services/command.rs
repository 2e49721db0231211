//! The `messaging` command, as an operator calls it.

use serde_json::Value;
use service_testing::{Ended, Program};

/// What the command answers, one object per line; it must succeed.
pub(crate) async fn messaging(broker: &str, arguments: &[&str]) -> Vec<Value> {
    let path = env!("CARGO_BIN_EXE_end-to-end-messaging");
    let arguments = [&["--json"], arguments].concat();
    let Ended { status, log } = Program::start(path, &arguments, [("MESSAGING_URL", broker)]).ended().await;
    assert!(status.success(), "messaging {arguments:?}: {log}");
    log.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}
