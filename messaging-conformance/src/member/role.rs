//! The other side of [`Process`](super::Process): this test program in the role of a member. It is told its part and
//! then its orders on standard input, and writes its records on standard output.

use std::{io::BufRead, process::ExitCode, sync::Arc, time::Duration};

use messaging::telemetry;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Gates, InProcess, MemberPlan, Recorder};
use crate::{
    factory::Factory,
    failure::{Checked, Failure},
    history::What,
    metering,
};

/// The argument by which a test program plays a member.
pub(super) const ROLE: &str = "--play-member";
/// How often the counters are looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// What a member is told first.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) plan: MemberPlan,
}

/// What it is told then.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    Stop { drain: Duration },
    Open { gate: String },
}

/// Whether this process was started to play a member.
pub(crate) fn is_role() -> bool {
    std::env::args().any(|argument| argument == ROLE)
}

/// Plays a member until told to stop; at once when nobody can tell it any more.
pub(crate) fn play(factory: &dyn Factory) -> ExitCode {
    // A member that is frozen when its test ends would stay for ever.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    metering::install();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let played = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(perform(factory)));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("a member's process: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(factory: &dyn Factory) -> Checked {
    let (part, mut orders) = listen()?;
    let Part { url, name, plan } = part;
    let recorder = Recorder::to_lines(name.into(), plan.group.as_str().into(), std::io::stdout());
    let gates = Arc::new(Gates::default());
    let broker = factory.connect(&url).await?;
    let member = InProcess::start(broker, &plan, &recorder, &gates).await?;
    let mut counts = Counts { group: plan.group.as_str().into(), recorder: recorder.clone(), skipped: 0, lost: 0 };
    let mut glance = tokio::time::interval(GLANCE);
    let drain = loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Open { gate }) => gates.open(&gate),
                Some(Order::Stop { drain }) => break drain,
                None => return Err(Failure::new("its test is gone")),
            },
            _ = glance.tick() => counts.report(),
            ended = member.running.failed() => ended?,
        }
    };
    member.stop(drain).await?;
    counts.report();
    recorder.record(What::Stopped);
    Ok(())
}

/// The part, and the orders as they come.
fn listen() -> Checked<(Part, mpsc::UnboundedReceiver<Order>)> {
    let mut lines = std::io::stdin().lock().lines();
    let part = lines.next().ok_or_else(|| Failure::new("was told nothing"))??;
    let part = serde_json::from_str(&part)?;
    drop(lines);
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(order) = line.map_err(Failure::from).and_then(|line| Ok(serde_json::from_str(&line)?)) else {
                break;
            };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    Ok((part, orders))
}

/// What the group says in its counters.
struct Counts {
    group: Arc<str>,
    recorder: Arc<Recorder>,
    skipped: u64,
    lost: u64,
}

impl Counts {
    fn report(&mut self) {
        let skipped = metering::counter(telemetry::SKIPPED, &self.group);
        if skipped != std::mem::replace(&mut self.skipped, skipped) {
            self.recorder.record(What::Skipped { group: self.group.clone(), count: skipped });
        }
        let lost = metering::counter(telemetry::LOST, &self.group);
        if lost != std::mem::replace(&mut self.lost, lost) {
            self.recorder.record(What::ReportedLost { group: self.group.clone(), count: lost });
        }
    }
}
