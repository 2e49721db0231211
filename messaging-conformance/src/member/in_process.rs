//! [`InProcess`]: a member in the test's own process, with a connection of its own.

use std::{sync::Arc, time::Duration};

use messaging::{Broker, Messaging, MessagingOptions, Running};

use super::{Gates, MemberPlan, Recorder};
use crate::{
    factory::Sever,
    failure::{Checked, Failure},
};

pub(crate) struct InProcess {
    pub(crate) running: Running,
    pub(crate) gates: Arc<Gates>,
    messaging: Messaging,
    sever: Option<Box<dyn Sever>>,
}

impl InProcess {
    pub(crate) async fn start(
        broker: Arc<dyn Broker>,
        plan: &MemberPlan,
        recorder: &Arc<Recorder>,
        gates: &Arc<Gates>,
    ) -> Checked<Self> {
        let messaging = Messaging::new(broker, MessagingOptions::default()).await?;
        let running = messaging.run_one(plan.router(recorder, gates)).await?;
        recorder.joined();
        Ok(Self { running, gates: gates.clone(), messaging, sever: None })
    }

    pub(crate) fn severable(mut self, sever: Option<Box<dyn Sever>>) -> Self {
        self.sever = sever;
        self
    }

    pub(crate) async fn stop(self, drain: Duration) -> Checked {
        let stopped = self.running.shutdown(drain).await;
        let closed = self.messaging.close(Duration::from_secs(10)).await;
        stopped?;
        closed?;
        Ok(())
    }

    pub(crate) async fn kill(self) {
        drop(self.running);
        // What was aborted is dropped by the runtime once it gets to it.
        tokio::task::yield_now().await;
    }

    pub(crate) fn sever(&self) -> Checked {
        self.severance()?.sever();
        Ok(())
    }

    pub(crate) fn restore(&self) -> Checked {
        self.severance()?.restore();
        Ok(())
    }

    fn severance(&self) -> Checked<&dyn Sever> {
        self.sever.as_deref().ok_or_else(|| Failure::new("a member of this process cannot be cut off"))
    }
}
