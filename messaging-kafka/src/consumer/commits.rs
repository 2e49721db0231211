//! Commits: what is finished goes to the coordinator, and with it the sign of life that keeps the partitions ours.
//!
//! One commit is out at a time. Its success moves `valid_until` to the time it was *sent* plus the validity.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use messaging::{Clock, Error, ErrorKind, Tick};
use rdkafka::{TopicPartitionList, consumer::Consumer, error::KafkaResult, types::RDKafkaErrorCode as Code};

use super::{committer::Committer, event::Event, inbox::TenureId, pump::Pump, resolve::add_commit};
use crate::mark::Mark;

/// What is finished is sent this soon after the commit before: what was not sent when a process dies comes again.
const SOON: Duration = Duration::from_millis(20);
/// A renewal goes at least this often.
const AT_LEAST: Duration = Duration::from_millis(900);
/// How long the last commit may take, beyond the time after which a dead member does not hold up the others any more.
const LAST: Duration = Duration::from_secs(4);
/// Room that a delivery which is still running may take in the metadata once it is finished: a bit, in base 64, and some
/// more for what compression does not reach.
const UNFINISHED_PER_BYTE: u64 = 5;

/// The commit that is out, and when the next is due.
pub(super) struct Commits {
    committer: Committer,
    out: Option<Out>,
    last: Instant,
    /// The largest metadata that the broker takes.
    limit: usize,
    /// Why the last commit failed, if it did.
    failure: Option<Code>,
}

struct Out {
    sent: Tick,
    purpose: Purpose,
}

enum Purpose {
    Renewal(Vec<TenureId>),
    /// The first commit on partitions that are being adopted; who waits for it looks at the answer.
    Adoption,
}

impl Commits {
    pub(super) fn new(committer: Committer, limit: usize) -> Self {
        Self { committer, out: None, last: Instant::now(), limit, failure: None }
    }

    /// How soon what is finished is to be sent; the answer to a commit that is out wakes the pump.
    pub(super) fn due_in(&self) -> Duration {
        if self.is_idle() { SOON.saturating_sub(self.last.elapsed()) } else { SOON }
    }

    /// The largest metadata that the broker takes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Waits for the commit that is out, and ends.
    pub(super) fn end(self) {
        self.committer.end();
    }

    /// Whether none is out.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_none()
    }
}

impl Pump {
    /// Takes the answers to commits, and sends the next one if it is due.
    pub(super) fn renew(&mut self) {
        while let Some(end) = self.commits.committer.ended() {
            if let Some(out) = self.commits.out.take() {
                self.committed(&out, &end);
            }
        }
        if !self.commits.is_idle() || self.consumer.assignment_lost() {
            return;
        }
        let since = self.commits.last.elapsed();
        let dirty = self.tenures.iter().any(|tenure| tenure.dirty && tenure.is_adopted());
        // Whoever waits for a partition waits for its last commit.
        let urgent = self.revoking.is_some() || self.is_closing();
        let due = if dirty { urgent || since >= SOON } else { since >= AT_LEAST };
        if due {
            self.send_renewal(dirty);
        }
    }

    /// Sends what is new; if nothing is, all of it again: for the sign of life, and because a commit from an earlier
    /// membership that was held up on its way may have put something older in its place.
    fn send_renewal(&mut self, dirty: bool) {
        let mut list = TopicPartitionList::new();
        let mut ids = Vec::new();
        for tenure in self.tenures.iter_mut().filter(|tenure| tenure.is_adopted() && tenure.dirty == dirty) {
            let mark = Mark { epoch: tenure.id.epoch, runs: tenure.progress.finished_runs() };
            let text = mark.write(self.commits.limit);
            let running = tenure.progress.count_unfinished(tenure.flow.taken_before.load(Ordering::Relaxed));
            let full = text.len() as u64 + running / UNFINISHED_PER_BYTE > self.commits.limit as u64;
            if tenure.flow.held.swap(full, Ordering::Relaxed) != full {
                tracing::debug!(topic = %tenure.topic, partition = tenure.partition, full, "room in the commit's metadata");
            }
            add_commit(&mut list, &tenure.topic, tenure.partition, tenure.progress.watermark(), &text);
            tenure.dirty = false;
            ids.push(tenure.id);
        }
        if !ids.is_empty() {
            self.send_commit(list, Purpose::Renewal(ids));
        }
    }

    /// Sends the first commit of partitions that are being adopted. Answers when it was sent.
    pub(super) fn send_adoption(&mut self, list: TopicPartitionList) -> Tick {
        self.send_commit(list, Purpose::Adoption)
    }

    fn send_commit(&mut self, list: TopicPartitionList, purpose: Purpose) -> Tick {
        let sent = self.clock.now();
        self.commits.last = Instant::now();
        self.commits.out = Some(Out { sent, purpose });
        self.commits.committer.commit(list);
        sent
    }

    fn committed(&mut self, out: &Out, end: &KafkaResult<()>) {
        let failure = end.as_ref().err().map(|error| error.rdkafka_error_code().unwrap_or(Code::Fail));
        self.commits.failure = failure;
        if let Some(code) = failure {
            tracing::debug!(%code, "a commit failed");
        }
        match &out.purpose {
            Purpose::Renewal(ids) if failure.is_some() => {
                for id in ids {
                    if let Some(tenure) = self.tenures.get_mut(*id) {
                        tenure.dirty = true;
                    }
                }
            }
            Purpose::Renewal(_) if self.consumer.assignment_lost() => {}
            Purpose::Renewal(_) => self.events.push(Event::Renewed(out.sent + self.validity)),
            Purpose::Adoption => self.adoption_committed(failure),
        }
    }

    /// Commits what is left before the group is left.
    ///
    /// # Errors
    /// If the coordinator did not take it: what it lacks comes back.
    pub(super) fn commit_the_rest(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.admin.config().session_timeout + LAST;
        loop {
            self.renew();
            let dirty = self.tenures.iter().any(|tenure| tenure.dirty && tenure.is_adopted());
            if !dirty && self.commits.is_idle() {
                return Ok(());
            }
            let lost = self.consumer.assignment_lost();
            if lost || Instant::now() >= deadline {
                let why = match self.commits.failure {
                    Some(code) => code.to_string(),
                    None if lost => "the partitions were lost".to_owned(),
                    None => "the coordinator did not answer".to_owned(),
                };
                return Err(Error::new(ErrorKind::Unavailable, format!("kafka: the last commit failed: {why}")));
            }
            // Whatever is read now is nobody's any more; only the answer counts.
            drop(self.consumer.poll(Duration::from_millis(10)));
        }
    }
}
