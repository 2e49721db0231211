//! [`Recorder`]: where a member's records go, and the guard that records how each of its runs ended.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use messaging::Delivery;
use parking_lot::Mutex;

use crate::{
    history::{End, Log, Record, Start, What, payload_hash},
    script::{id, key_text},
};

/// Records for one member.
pub(crate) struct Recorder {
    who: Arc<str>,
    group: Arc<str>,
    runs: AtomicU64,
    sink: Sink,
}

enum Sink {
    Log(Arc<Log>),
    /// As lines of JSON, each written at once: whoever reads has everything when this process is killed.
    Lines(Mutex<Box<dyn Write + Send>>),
}

impl Recorder {
    pub(crate) fn to_log(who: Arc<str>, group: Arc<str>, log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self { who, group, runs: AtomicU64::new(0), sink: Sink::Log(log) })
    }

    pub(crate) fn to_lines(who: Arc<str>, group: Arc<str>, out: impl Write + Send + 'static) -> Arc<Self> {
        Arc::new(Self { who, group, runs: AtomicU64::new(0), sink: Sink::Lines(Mutex::new(Box::new(out))) })
    }

    pub(crate) fn record(&self, what: What) {
        match &self.sink {
            Sink::Log(log) => log.record(&self.who, what),
            Sink::Lines(out) => {
                let mut out = out.lock();
                // Under the lock, so that lines are in the order of their times.
                let record = Record::now(self.who.clone(), what);
                let Ok(mut line) = serde_json::to_vec(&record) else { return };
                line.push(b'\n');
                // Whoever does not read any more does not want it.
                let _ = out.write_all(&line).and_then(|()| out.flush());
            }
        }
    }

    pub(crate) fn joined(&self) {
        self.record(What::Joined { group: self.group.clone() });
    }

    /// A handler starts.
    pub(crate) fn begin(self: &Arc<Self>, delivery: &Delivery) -> Run {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let message = &delivery.message;
        self.record(What::Started(Start {
            run,
            group: self.group.clone(),
            topic: message.topic.as_str().into(),
            partition: delivery.partition,
            position: delivery.position,
            epoch: delivery.epoch,
            attempt: delivery.attempt,
            key: key_text(message),
            id: id(message),
            hash: payload_hash(&message.payload),
        }));
        Run { recorder: self.clone(), run, ended: false }
    }
}

/// A run of a handler that has started; dropped without an end, it records that.
pub(crate) struct Run {
    recorder: Arc<Recorder>,
    run: u64,
    ended: bool,
}

impl Run {
    pub(crate) fn end(mut self, how: End) {
        self.record(how);
    }

    fn record(&mut self, how: End) {
        self.ended = true;
        self.recorder.record(What::Ended { run: self.run, how });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            self.record(if std::thread::panicking() { End::Failed } else { End::Dropped });
        }
    }
}
