//! [`RabbitMqPublisher`]: batches onto a confirm channel of its own connection, answers out of confirms and returns.
//!
//! A task drives it: it sends what was handed over as far as the window of unconfirmed messages goes, and answers what the
//! broker confirms, returns or refuses. It opens the connection anew when that is lost; what was unconfirmed then is
//! unknown, and is not sent again.

mod confirms;
mod driver;
mod outstanding;
mod topic;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use messaging::{Batch, Error, ErrorKind, Outcome, Publisher, PublisherOptions};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    link::{Link, Links},
    topology::Topology,
};

/// How many batches may be with the task: what is on its way is bounded by the window, so that this bounds only how
/// much waits for it.
const DEPTH: usize = 16;

/// What callers and the task share.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<DeskState>,
    changed: Notify,
}

#[derive(Default)]
struct DeskState {
    handed_over: Vec<Batch>,
    /// Until then what was handed over may be sent, once closing.
    closing: Option<Instant>,
}

/// A publisher on RabbitMQ.
pub(crate) struct RabbitMqPublisher {
    desk: Arc<Desk>,
    ended: watch::Receiver<Option<bool>>,
}

impl RabbitMqPublisher {
    pub(crate) async fn open(links: &Arc<Links>, options: PublisherOptions) -> Result<Arc<Self>, Error> {
        let link: Link = links.open("messaging: publisher").await?;
        for subscription in &options.declare {
            Topology { links, link: &link }.group(subscription).await?;
        }
        let desk = Arc::new(Desk::default());
        let (ended, watched) = watch::channel(None);
        let driver = driver::Driver::new(links.clone(), desk.clone(), options.deadline, link).await?;
        links.runtime.spawn(async move {
            let all_answered = driver.run().await;
            ended.send_replace(Some(all_answered));
        });
        Ok(Arc::new(Self { desk, ended: watched }))
    }
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    fn send(&self, batch: Batch) {
        let refused = self.desk.hand_over(batch);
        if let Some(mut batch) = refused {
            for index in 0..batch.len() {
                batch.complete(index, Outcome::Rejected(Error::new(ErrorKind::Closed, "the publisher is closed")));
            }
        }
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        self.desk.close(Instant::now() + deadline);
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some(true)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Timeout, "the publisher closed before every message had its confirm")),
        }
    }
}

impl Drop for RabbitMqPublisher {
    fn drop(&mut self) {
        self.desk.close(Instant::now());
    }
}

impl Desk {
    /// Takes a batch in; gives it back once closing.
    fn hand_over(&self, batch: Batch) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return Some(batch);
        }
        state.handed_over.push(batch);
        drop(state);
        self.changed.notify_one();
        None
    }

    fn close(&self, deadline: Instant) {
        let mut state = self.state.lock();
        state.closing = Some(state.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.changed.notify_one();
    }

    /// What was handed over since the last call, and until when it may be sent, once closing.
    fn collect(&self) -> (Vec<Batch>, Option<Instant>) {
        let mut state = self.state.lock();
        (std::mem::take(&mut state.handed_over), state.closing)
    }
}
