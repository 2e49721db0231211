//! [`Pump`]: the thread that owns the client. It drains the client's queue whatever handlers do, commits, and answers the
//! coordinator; nothing on it ever waits for a handler.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use messaging::{BootClock, Error, ErrorKind, Name, Start, cloudevents::Reader, handoff};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::{
    adopt::Adopting,
    commits::Commits,
    committer::Committer,
    context::{Context, Rebalance},
    event::Event,
    fetched::{Fetched, TURN},
    inbox::{Inbox, Letters},
    resolve::list_of,
    revoke::Revoking,
    standstill::Watch,
    tenure::{Phase, Tenures},
};
use crate::{
    admin::KafkaAdmin,
    record::{self, Record},
};

/// While partitions are ours, and while none is, the pump looks around this often without a reason.
const GLANCE: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
/// Between the pump and the executor lie at most so many messages of all partitions, and of one at least so many.
const WAITING_MESSAGES: usize = 65_536;
const LEAST_MESSAGES: usize = 512;
const LEAST_BYTES: usize = 256 << 10;
/// How long leaving the group may take, beyond the time after which a dead member does not hold up the others any more:
/// while the group waits for one, nobody leaves.
const LEAVING: Duration = Duration::from_secs(4);

/// The thread's state.
pub(super) struct Pump {
    pub(super) fetched: Fetched,
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) admin: KafkaAdmin,
    pub(super) inbox: Arc<Inbox>,
    pub(super) out: handoff::Sender<Event>,
    /// What goes out next.
    pub(super) events: Vec<Event>,
    reader: Reader,
    letters: Letters,
    pub(super) topics: Vec<Name>,
    pub(super) start: Start,
    pub(super) clock: BootClock,
    /// How long after a renewal was sent the partitions are surely ours.
    pub(super) validity: Duration,
    pub(super) tenures: Tenures,
    pub(super) commits: Commits,
    pub(super) adopting: Option<Adopting>,
    pub(super) revoking: Option<Revoking>,
    pub(super) watch: Watch,
    /// The log may have been cut away where we read it.
    check_ranges: bool,
    prefetch_bytes: usize,
    failed: bool,
}

impl Pump {
    pub(super) fn new(
        mut consumer: BaseConsumer<Context>,
        admin: KafkaAdmin,
        inbox: Arc<Inbox>,
        out: handoff::Sender<Event>,
        topics: Vec<Name>,
        start: Start,
    ) -> Result<Self, Error> {
        let wake = inbox.clone();
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let fetched = Fetched::new(consumer.clone(), inbox.clone())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "kafka: the client has no queue to give"))?;
        let committer = Committer::start(consumer.clone(), inbox.clone())?;
        let limit = admin.limits().commit_metadata;
        let config = admin.config();
        let session = config.session_timeout;
        let prefetch_bytes = config.prefetch_bytes;
        Ok(Self {
            fetched,
            consumer,
            admin,
            inbox,
            out,
            events: Vec::new(),
            reader: Reader::default(),
            letters: Letters::default(),
            topics,
            start,
            clock: BootClock,
            validity: session - session / 6,
            tenures: Tenures::default(),
            commits: Commits::new(committer, limit),
            adopting: None,
            revoking: None,
            watch: Watch::default(),
            check_ranges: false,
            prefetch_bytes,
            failed: false,
        })
    }

    /// Runs until the group was left.
    pub(super) fn run(mut self) {
        self.inbox.attend();
        loop {
            let more = self.drain();
            self.hand_over();
            self.read_letters();
            self.rebalance();
            self.renew();
            self.adopt();
            self.finish_revocation();
            self.regulate();
            self.watch();
            self.hand_over();
            if self.letters.close {
                return self.close();
            }
            let (patience, soon) = self.patience();
            if !more && self.inbox.may_sleep(soon) {
                std::thread::park_timeout(patience);
            }
        }
    }

    /// Takes what the client has: what it calls back, and messages. Answers whether there may be more.
    fn drain(&mut self) -> bool {
        let more = self.serve();
        let (tenures, reader, events) = (&mut self.tenures, &mut self.reader, &mut self.events);
        let mut errors = Vec::new();
        let taken = self.fetched.drain(|message| match message {
            Ok(message) => take(tenures, reader, events, message),
            Err(code) => errors.push(code),
        });
        errors.into_iter().for_each(|code| self.note(&KafkaError::MessageConsumption(code)));
        more || taken == TURN
    }

    /// Lets the client call back. Answers whether it may have more to say.
    fn serve(&mut self) -> bool {
        let mut activity = self.consumer.context().activity();
        for _ in 0..TURN {
            match self.consumer.poll(Duration::ZERO) {
                // Of a partition that is not forwarded.
                Some(Ok(message)) => take(&mut self.tenures, &mut self.reader, &mut self.events, &message),
                Some(Err(error)) => self.note(&error),
                None => {
                    // Either nothing was there, or something that was called back.
                    let now = self.consumer.context().activity();
                    if std::mem::replace(&mut activity, now) == now {
                        return false;
                    }
                    if self.consumer.context().has_rebalances() {
                        return true;
                    }
                }
            }
        }
        true
    }

    fn note(&mut self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(_) if !std::mem::replace(&mut self.failed, true) => {
                let message = "kafka: the consumer failed for good";
                self.events.push(Event::Failed(Error::new(ErrorKind::Unavailable, message).with_source(error.clone())));
            }
            KafkaError::MessageConsumption(Code::InvalidSessionTimeout)
                if !std::mem::replace(&mut self.failed, true) =>
            {
                let message = "option \"session_timeout\" is out of the range that the broker allows \
                               (group.min.session.timeout.ms to group.max.session.timeout.ms)";
                self.events.push(Event::Failed(crate::config::wrong(message)));
            }
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.check_ranges = true,
            KafkaError::MessageConsumption(
                Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::UnknownTopicOrPartition,
            ) => tracing::warn!(%error, "reading is refused; trying on"),
            _ => tracing::debug!(%error, "the consumer reports"),
        }
    }

    /// Gives everything that has gathered to the executor.
    pub(super) fn hand_over(&mut self) {
        for tenure in self.tenures.iter_mut() {
            let (messages, bytes) = std::mem::take(&mut tenure.untold);
            if messages > 0 {
                tenure.flow.add(messages, bytes);
            }
        }
        self.out.send(&mut self.events);
    }

    fn read_letters(&mut self) {
        self.inbox.take(&mut self.letters);
        for (id, offset) in self.letters.finished.drain(..) {
            if let Some(tenure) = self.tenures.get_mut(id) {
                tenure.progress.finish(offset);
                tenure.dirty = true;
            }
        }
        let mut unasked = Vec::new();
        for id in self.letters.released.drain(..) {
            if let Some(tenure) = self.tenures.get_mut(id) {
                if tenure.is_held() {
                    tenure.paused = true;
                    unasked.push((tenure.topic.to_string(), tenure.partition));
                }
                tenure.phase = Phase::Drained;
            }
        }
        if !unasked.is_empty() {
            self.switch(&list_of(&unasked), true);
        }
    }

    /// Takes note of what the coordinator has decided.
    fn rebalance(&mut self) {
        for rebalance in self.consumer.context().take_rebalances() {
            match rebalance {
                Rebalance::Assigned(partitions) => self.expect(&partitions),
                Rebalance::Revoked { partitions, lost } => self.revoke(partitions, lost),
            }
        }
        if self.check_ranges && self.tenures.iter().any(super::tenure::Tenure::is_held) {
            self.check_ranges = !self.skip_what_is_gone();
        }
    }

    /// Stops fetching what the executor has enough of, and goes on where there is room again.
    fn regulate(&mut self) {
        let count = self.tenures.len().max(1);
        let messages = (WAITING_MESSAGES / count).max(LEAST_MESSAGES);
        let bytes = (self.prefetch_bytes / count).max(LEAST_BYTES);
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for tenure in self.tenures.iter_mut().filter(|tenure| tenure.is_held()) {
            let place = || (tenure.topic.to_string(), tenure.partition);
            if !tenure.paused && tenure.flow.exceeds(messages, bytes) {
                pause.push(place());
                tenure.paused = true;
            } else if tenure.paused && !tenure.flow.exceeds(messages / 4, bytes / 4) {
                resume.push(place());
                tenure.paused = false;
            }
            tenure.flow.paused.store(tenure.paused, Ordering::Relaxed);
        }
        if !pause.is_empty() {
            self.switch(&list_of(&pause), true);
        }
        if !resume.is_empty() {
            self.switch(&list_of(&resume), false);
        }
    }

    /// Pauses or resumes fetching.
    pub(super) fn switch(&self, partitions: &TopicPartitionList, pause: bool) {
        let done = if pause { self.consumer.pause(partitions) } else { self.consumer.resume(partitions) };
        if let Err(error) = done {
            tracing::warn!(%error, pause, "the client did not pause or resume");
        }
    }

    /// Whether the executor takes nothing up any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.letters.closing || self.letters.close
    }

    /// Whether the executor wants to leave the group.
    pub(super) fn is_closing(&self) -> bool {
        self.letters.close
    }

    /// How long nothing needs to be done, unless something happens; and whether finished deliveries can wait for it.
    fn patience(&self) -> (Duration, bool) {
        let now = Instant::now();
        let most = if self.tenures.len() > 0 { GLANCE } else { IDLE };
        let mut patience = most;
        let mut soon = false;
        for tenure in self.tenures.iter() {
            if let Phase::Adopting { at } = tenure.phase {
                patience = patience.min(at.saturating_duration_since(now));
            }
            soon |= tenure.dirty;
        }
        if soon {
            patience = patience.min(self.commits.due_in());
        }
        (patience.max(Duration::from_millis(1)), soon)
    }

    /// The client waits for an answer to each change of its assignment, also while it closes.
    fn answer_everything(&mut self) {
        if let Some(revoking) = self.revoking.take() {
            self.unassign(&revoking.partitions);
        }
        for rebalance in self.consumer.context().take_rebalances() {
            match rebalance {
                Rebalance::Assigned(_) => self.answer_assignment(),
                Rebalance::Revoked { partitions, .. } => self.unassign(&partitions),
            }
        }
    }

    /// Commits the last of it and leaves the group.
    fn close(mut self) {
        let committed = self.commit_the_rest();
        tracing::debug!(committed = committed.is_ok(), "leaving the group");
        self.consumer.context().close();
        self.answer_everything();
        let patience = self.admin.config().session_timeout + LEAVING;
        let deadline = Instant::now() + patience;
        self.finish_joining(deadline);
        self.unsubscribe(deadline);
        let Self { fetched, consumer, commits, out, .. } = self;
        // What is left waits for the coordinator, without a limit of its own.
        let (left, has_left) = std::sync::mpsc::channel();
        let span = tracing::Span::current();
        let leave = move || {
            let _entered = span.entered();
            commits.end();
            drop(fetched);
            drop(consumer);
            let _ = left.send(());
        };
        let in_time = match std::thread::Builder::new().name("kafka-leave".to_owned()).spawn(leave) {
            Ok(_) => has_left.recv_timeout(patience).is_ok(),
            Err(_) => false,
        };
        tracing::debug!(in_time, "left the group");
        let left_late = || Error::new(ErrorKind::Timeout, "kafka: leaving the group took too long");
        let left = if in_time { Ok(()) } else { Err(left_late()) };
        out.send_one(Event::Closed(committed.and(left)));
    }

    /// Waits for the coordinator's first answer: a client that closes before it comes does not leave the group, and dies of
    /// the answer if it comes while the client ends (librdkafka up to 2.12 follows a null pointer,
    /// confluentinc/librdkafka#5347).
    fn finish_joining(&self, deadline: Instant) {
        while !self.consumer.context().has_joined() && Instant::now() < deadline {
            drop(self.consumer.poll(Duration::from_millis(10)));
        }
    }

    /// Leaves the group before the client closes: one that closes without any partition forgets to (librdkafka 2.12),
    /// and the others would wait for it until its session runs out. While the group rebalances the client waits as well.
    fn unsubscribe(&self, deadline: Instant) {
        self.consumer.unsubscribe();
        while Instant::now() < deadline && self.consumer.subscription().is_ok_and(|topics| topics.count() > 0) {
            drop(self.consumer.poll(Duration::from_millis(10)));
        }
    }
}

/// Turns a message into an event, unless its partition is not the executor's, or it is finished.
fn take(tenures: &mut Tenures, reader: &mut Reader, events: &mut Vec<Event>, record: &impl Record) {
    let Ok(offset) = u64::try_from(record.offset()) else { return };
    let Some(tenure) = tenures.find_mut(record.topic(), record.partition()) else { return };
    if !tenure.is_held() || !tenure.progress.deliver(offset) {
        return;
    }
    let message = record::read_with(reader, &tenure.topic, record);
    tenure.untold.0 += 1;
    tenure.untold.1 += message.weight();
    events.push(Event::Message { slot: tenure.id.slot, offset, message });
}
