//! [`RedisPublisher`]: sends batches over one connection, each as one transaction.
//!
//! A transaction (`MULTI` … `EXEC`) costs next to nothing here, and makes what is refused certain: a full memory or a
//! demoted server refuses all of a batch or nothing, never one message in the middle, after which the next one of its key
//! would overtake it. As such a batch is surely not stored, it is sent again until the publish deadline; meanwhile
//! callers wait, which is the back-pressure. A batch whose answer does not come is *unknown* and never sent again.
//!
//! One batch is executed at a time. The next is encoded meanwhile and goes to the server, which queues it without
//! executing it; so the server has always something to do, and the next batch is still ours to call back.

mod flight;
mod prepare;
mod send;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::{Batch, Error, ErrorKind, Publisher, PublisherOptions};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use self::{
    prepare::{Line, Preparer},
    send::{Ahead, Sender},
};
use crate::{link::Connector, topics::Topics, trim::Trimmer};

/// A batch, and when its time is up.
pub(crate) struct Due {
    batch: Batch,
    deadline: Instant,
}

/// Publishes to one server.
pub(crate) struct RedisPublisher {
    queue: Mutex<Option<mpsc::UnboundedSender<Due>>>,
    pump: Mutex<Option<JoinHandle<()>>>,
    deadline: Duration,
}

impl RedisPublisher {
    /// Opens the connection.
    pub(crate) async fn open(
        connector: Arc<Connector>,
        topics: Arc<Topics>,
        trimmer: Arc<Trimmer>,
        options: PublisherOptions,
    ) -> Result<Self, Error> {
        let sender = Sender::open(connector, options.deadline).await?;
        // Bounded by `depth`: the front hands over no more.
        let (queue, due) = mpsc::unbounded_channel();
        let pump = tokio::spawn(pump(Line::new(Preparer::new(topics, trimmer, due)), sender));
        Ok(Self { queue: Mutex::new(Some(queue)), pump: Mutex::new(Some(pump)), deadline: options.deadline })
    }
}

/// Has one batch executed while the next is made ready and goes to the server.
async fn pump(mut line: Line, mut sender: Sender) {
    let mut ahead = line.next().await.map(Ahead::from);
    while let Some(next) = ahead.take() {
        let mut flying = sender.launch(next).await;
        while let Some(mut current) = flying.take() {
            let landed = loop {
                tokio::select! {
                    biased;
                    landed = current.landed() => break landed,
                    Some(prepared) = line.next(), if ahead.is_none() => {
                        ahead = Some(sender.follow(&mut current, prepared).await);
                    }
                }
            };
            // First what the server waits for.
            if landed.went_well()
                && let Some(queued) = ahead.take_if(|ahead| sender.has_queued(ahead))
            {
                flying = sender.launch(queued).await;
            }
            sender.conclude(current, landed, ahead.as_mut()).await;
        }
        if ahead.is_none() {
            ahead = line.next().await.map(Ahead::from);
        }
    }
}

#[async_trait]
impl Publisher for RedisPublisher {
    fn send(&self, batch: Batch) {
        // Leaves time to answer before the front's own deadline calls a message unknown that was never sent.
        let deadline = Instant::now() + self.deadline.mul_f32(0.95);
        if let Some(queue) = &*self.queue.lock() {
            // A batch that comes back is dropped, which answers it.
            let _ = queue.send(Due { batch, deadline });
        }
    }

    /// One is executed, one lies at the server, one is encoded.
    fn depth(&self) -> usize {
        3
    }

    fn max_batch(&self) -> usize {
        500
    }

    async fn close(&self, deadline: Duration) -> Result<(), Error> {
        drop(self.queue.lock().take());
        let Some(mut pump) = self.pump.lock().take() else { return Ok(()) };
        if tokio::time::timeout(deadline, &mut pump).await.is_ok() {
            return Ok(());
        }
        pump.abort();
        Err(Error::new(ErrorKind::Timeout, "what was published had no answer when the publisher was closed"))
    }
}

impl Drop for RedisPublisher {
    fn drop(&mut self) {
        if let Some(pump) = self.pump.lock().take() {
            pump.abort();
        }
    }
}
