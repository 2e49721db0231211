//! Members of groups: instances that handle messages by their scripts and record what they do, in this process or in
//! one of their own.

mod acting;
mod gates;
mod in_process;
mod plan;
mod process;
mod recorder;
mod role;

use std::{sync::Arc, time::Duration};

pub(crate) use gates::Gates;
pub(crate) use in_process::InProcess;
pub(crate) use plan::{MemberPlan, StartAt};
pub(crate) use process::Process;
pub(crate) use recorder::Recorder;
pub(crate) use role::{is_role, play};

use crate::{
    failure::{Checked, Failure},
    history::{Log, What},
};

/// One member of a group.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    log: Arc<Log>,
    body: Body,
}

enum Body {
    InProcess(InProcess),
    Process(Process),
}

impl Member {
    pub(crate) fn in_process(name: Arc<str>, log: Arc<Log>, body: InProcess) -> Self {
        Self { name, log, body: Body::InProcess(body) }
    }

    pub(crate) fn process(name: Arc<str>, log: Arc<Log>, body: Process) -> Self {
        Self { name, log, body: Body::Process(body) }
    }

    /// Stops gracefully: running handlers get `drain`, everything is settled, the group is left.
    pub(crate) async fn stop(self, drain: Duration) -> Checked {
        let stopped = match self.body {
            Body::InProcess(member) => {
                let stopped = member.stop(drain).await;
                if stopped.is_ok() {
                    self.log.record(&self.name, What::Stopped);
                }
                stopped
            }
            // It records its own stop.
            Body::Process(process) => process.stop(drain).await,
        };
        stopped.map_err(|failure| failure.within(format!("stopping {}", self.name)))
    }

    /// Ends it at once: SIGKILL, or in this process its future is dropped.
    pub(crate) async fn kill(self) -> Checked {
        match self.body {
            Body::InProcess(member) => member.kill().await,
            Body::Process(process) => process.kill().await?,
        }
        self.log.record(&self.name, What::Killed);
        Ok(())
    }

    /// Freezes it: SIGSTOP, or in this process it and its cluster do not hear of each other any more.
    pub(crate) fn freeze(&self) -> Checked {
        // Before, so that what happens in between is not held against it.
        self.log.record(&self.name, What::Frozen);
        match &self.body {
            Body::InProcess(member) => member.sever(),
            Body::Process(process) => process.freeze(),
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Checked {
        match &self.body {
            Body::InProcess(member) => member.restore()?,
            Body::Process(process) => process.thaw()?,
        }
        self.log.record(&self.name, What::Thawed);
        Ok(())
    }

    /// Whether it lives in this process: frozen, it still runs, and only hears nothing.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.body, Body::InProcess(_))
    }

    /// Opens a gate for its handlers alone.
    pub(crate) async fn open(&mut self, gate: &str) -> Checked {
        match &mut self.body {
            Body::InProcess(member) => {
                member.gates.open(gate);
                Ok(())
            }
            Body::Process(process) => process.open(gate).await,
        }
    }

    /// The running group, for what only members of this process can be asked.
    pub(crate) fn running(&self) -> Checked<&messaging::Running> {
        match &self.body {
            Body::InProcess(member) => Ok(&member.running),
            Body::Process(_) => Err(Failure::new("this member is a process of its own")),
        }
    }
}
