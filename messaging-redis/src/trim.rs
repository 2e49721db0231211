//! [`Trimmer`]: removes, now and then, what the retention of each topic in use no longer keeps.
//!
//! A script looks at every group of a stream and trims in the same step, so that what some group has not settled stays,
//! unless the retention says otherwise. Every program that publishes to a topic or reads it takes part; a note beside the
//! stream lets one of them do the work in each interval.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::task::AbortHandle;

use crate::{
    config::{Retention, Unread},
    keys::trim_key,
    link::SharedLink,
    scripts,
    topics::Topic,
};

/// So many entries are removed in one step at most: the server serves nobody else meanwhile.
const MAX_STEP: u64 = 50_000;
/// Streams per round trip.
const STREAMS: usize = 64;

pub(crate) struct Trimmer {
    link: Arc<SharedLink>,
    topics: Mutex<Vec<Arc<Topic>>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Trimmer {
    pub(crate) fn new(link: Arc<SharedLink>) -> Arc<Self> {
        Arc::new(Self { link, topics: Mutex::default(), task: Mutex::default() })
    }

    /// From now on this topic is trimmed, if its retention bounds it.
    pub(crate) fn watch(self: &Arc<Self>, topic: &Arc<Topic>) {
        let retention = topic.retention(self.link.config().retention);
        if retention.age.is_none() && retention.length.is_none() && !retention.finished {
            return;
        }
        let mut topics = self.topics.lock();
        if topics.iter().any(|known| known.name == topic.name) {
            return;
        }
        topics.push(topic.clone());
        drop(topics);
        let mut task = self.task.lock();
        if task.is_none() {
            let interval = self.link.config().trim_interval;
            *task = Some(tokio::spawn(run(Arc::downgrade(self), interval)).abort_handle());
        }
    }

    /// Trims no more.
    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    async fn trim_all(&self) {
        let topics = self.topics.lock().clone();
        for topic in topics {
            let retention = topic.retention(self.link.config().retention);
            for streams in topic.streams.chunks(STREAMS) {
                self.trim(streams, retention).await;
            }
        }
    }

    async fn trim(&self, streams: &[Arc<str>], retention: Retention) {
        let mut streams = streams.to_vec();
        let mut interval = self.link.config().trim_interval;
        while !streams.is_empty() {
            let mut pipe = Pipeline::with_capacity(streams.len());
            for stream in &streams {
                let cmd = pipe.add_command(scripts::TRIM.call(&[&**stream, &trim_key(stream)]));
                // A note that outlives the interval would let it pass without anybody's work.
                cmd.arg((interval.as_millis() as u64) * 9 / 10);
                cmd.arg(retention.age.map(|age| age.as_millis().to_string()).unwrap_or_default());
                cmd.arg(retention.length.map(|length| length.to_string()).unwrap_or_default());
                cmd.arg(u8::from(retention.finished)).arg(u8::from(retention.unread == Unread::Drop)).arg(MAX_STEP);
            }
            let answers = match self.link.pipeline("trimming", &pipe).await {
                Ok(answers) => answers,
                Err(error) => {
                    tracing::warn!(%error, "streams could not be trimmed");
                    return;
                }
            };
            let mut answers = answers.into_iter();
            streams.retain(|stream| match answers.next() {
                // There may be more than one step was allowed to remove.
                Some(Value::Int(gone)) => gone as u64 >= MAX_STEP / 2,
                Some(Value::ServerError(error)) => {
                    let details = error.details().unwrap_or_default();
                    tracing::warn!(%stream, code = error.code(), details, "a stream could not be trimmed");
                    false
                }
                _ => false,
            });
            interval = Duration::ZERO;
        }
    }
}

async fn run(trimmer: Weak<Trimmer>, interval: Duration) {
    loop {
        tokio::time::sleep(interval.mul_f64(0.9 + fastrand::f64() * 0.2)).await;
        let Some(trimmer) = trimmer.upgrade() else { return };
        trimmer.trim_all().await;
    }
}

impl Drop for Trimmer {
    fn drop(&mut self) {
        self.stop();
    }
}
