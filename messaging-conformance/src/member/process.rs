//! [`Process`]: a member that is this test program once more, in the role of a member, to be killed and frozen.

use std::{process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};

use super::{
    MemberPlan,
    role::{Order, Part, ROLE},
};
use crate::{
    failure::{Checked, Failure},
    history::{Log, Record},
};

/// How much longer than its drain a stop may take before the process is given up.
const STOP_MARGIN: Duration = Duration::from_secs(20);

pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    reading: JoinHandle<()>,
}

impl Process {
    /// Starts it. It says in the log when it has joined.
    pub(crate) async fn start(url: String, name: &Arc<str>, plan: &MemberPlan, log: &Arc<Log>) -> Checked<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::from(error).within("starting a member's process"))?;
        let (Some(orders), Some(records)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("a member's process has no pipes"));
        };
        let log = log.clone();
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(records).lines();
            // Until it is gone; the last line may be cut short.
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(record) = serde_json::from_str::<Record>(&line) {
                    log.append(record);
                }
            }
        });
        let mut process = Self { child, orders, reading };
        let part = Part { url, name: name.to_string(), plan: plan.clone() };
        process.tell(&part).await?;
        Ok(process)
    }

    pub(crate) async fn stop(mut self, drain: Duration) -> Checked {
        self.tell(&Order::Stop { drain }).await?;
        let status = tokio::time::timeout(drain + STOP_MARGIN, self.child.wait()).await;
        let status = status.map_err(|_| Failure::new("the process does not end"))??;
        self.reading.await?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("the process ended with {status}"))) }
    }

    pub(crate) async fn kill(mut self) -> Checked {
        self.child.kill().await?;
        // Everything that it has recorded is in the log now.
        self.reading.await?;
        Ok(())
    }

    pub(crate) fn freeze(&self) -> Checked {
        self.signal(Signal::STOP)
    }

    pub(crate) fn thaw(&self) -> Checked {
        self.signal(Signal::CONT)
    }

    pub(crate) async fn open(&mut self, gate: &str) -> Checked {
        self.tell(&Order::Open { gate: gate.to_owned() }).await
    }

    fn signal(&self, signal: Signal) -> Checked {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(|| Failure::new("the process has ended"))?;
        Ok(kill_process(pid, signal)?)
    }

    async fn tell(&mut self, what: &impl serde::Serialize) -> Checked {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.orders.write_all(&line).await?;
        self.orders.flush().await?;
        Ok(())
    }
}
