//! [`Acting`]: the handler of every member: does what the message's script says, and records it.

use std::{collections::HashMap, sync::Arc};

use messaging::{Delivery, HandlerError};
use parking_lot::Mutex;

use super::{Gates, Recorder};
use crate::{
    history::End,
    script::{Fail, How, Script},
};

#[derive(Clone)]
pub(super) struct Acting {
    recorder: Arc<Recorder>,
    gates: Arc<Gates>,
    /// How often each message that fails a few times has run here.
    runs: Arc<Mutex<HashMap<(u32, messaging::Position), u32>>>,
}

impl Acting {
    pub(super) fn new(recorder: Arc<Recorder>, gates: Arc<Gates>) -> Self {
        Self { recorder, gates, runs: Arc::default() }
    }

    pub(super) async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let run = self.recorder.begin(&delivery);
        let script = Script::of(&delivery.message);
        if let Some(gate) = &script.gate {
            self.gates.pass(gate).await;
        }
        if let Some(work) = script.work() {
            tokio::time::sleep(work).await;
        }
        match script.fail.filter(|fail| self.still_fails(fail, &delivery)) {
            None => {
                run.end(End::Handled);
                Ok(())
            }
            Some(fail) => {
                let error = self.fail(fail.how).await;
                run.end(End::Failed);
                Err(error)
            }
        }
    }

    fn still_fails(&self, fail: &Fail, delivery: &Delivery) -> bool {
        let Some(first) = fail.first else { return true };
        let mut runs = self.runs.lock();
        let run = runs.entry((delivery.partition, delivery.position)).or_default();
        *run += 1;
        *run <= first
    }

    #[expect(clippy::panic, reason = "a script may say that the handler panics")]
    async fn fail(&self, how: How) -> HandlerError {
        match how {
            How::Transient => HandlerError::transient("as the script says"),
            How::Permanent => HandlerError::permanent("as the script says"),
            How::Infrastructure => HandlerError::infrastructure("as the script says"),
            How::Panic => panic!("as the script says"),
            How::Hang => std::future::pending().await,
            How::Abort => std::process::abort(),
        }
    }
}
