//! Runs the command and reads what it prints.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// No command of these tests may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// One object for each line, of a run that went well.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// The command, with nothing of this process's environment that names a broker.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messaging"));
    for name in
        ["MESSAGING_URL", "MESSAGING_BROKER", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "RABBITMQ_URL", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the command to its end.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    run_with_input(arguments, "").await
}

/// The same, with something on its standard input.
pub(crate) async fn run_with_input(arguments: &[&str], input: &str) -> Ran {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read ends before it is written.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} took too long")).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
