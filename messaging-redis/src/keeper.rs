//! [`Keeper`]: owns partitions on behalf of one member of a group, over a connection that nothing ever blocks.
//!
//! It goes in rounds: end connections that are lost to us, renew leases, settle, let go, claim, and look at who else is
//! there. Every step is idempotent, so that a round that broke off is simply begun anew over the next connection.

mod claiming;
mod clients;
mod leases;
mod settling;
mod sharing;
mod taking;

use std::{sync::Arc, time::Duration};

use messaging::{BootClock, Clock, Error, ErrorKind, Position, Tick};
use redis::{Pipeline, RedisError, RedisResult, Value};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    link::{Backoff, Connector, Link, failed, is_broken},
    membership::Board,
    shared::{Event, Shared},
    topics::{Topic, Topics},
};

/// How long settled positions wait for company.
const SETTLE_WITHIN: Duration = Duration::from_millis(10);
/// When something could not be done because of another task, and nobody will say when it can.
const SOON: Duration = Duration::from_millis(10);
/// How often it is checked that topics are what they were.
const VERIFY: Duration = Duration::from_secs(10);
/// How long closing may take while the server is away.
const CLOSE_WITHIN: Duration = Duration::from_secs(8);
/// Commands in one round trip.
const CHUNK: usize = 64;

/// A topic that the group reads.
pub(crate) struct GroupTopic {
    pub(crate) topic: Arc<Topic>,
    /// The key of its members.
    pub(crate) members: String,
    /// Where each partition was when this member last had it.
    pub(crate) remembered: Vec<Position>,
    /// Partitions that the executor has let go by itself, and until when others are to have a chance at them.
    pub(crate) avoided: Vec<(u32, Instant)>,
}

impl GroupTopic {
    pub(crate) fn new(topic: Arc<Topic>, group: &str) -> Self {
        let remembered = vec![Position::default(); topic.streams.len()];
        let members = crate::keys::members_key(&topic.name, group);
        Self { topic, members, remembered, avoided: Vec::new() }
    }
}

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    connector: Arc<Connector>,
    topics: Arc<Topics>,
    of_group: Vec<GroupTopic>,
    link: Option<Link>,
    clock: BootClock,
    renew_at: Instant,
    share_at: Instant,
    verify_at: Instant,
    /// Something waits for another task.
    soon: bool,
    /// Until then lapsed leases are left alone: their owners may be coming back as we are.
    respite_until: Instant,
    /// Who lived when there was nothing to do about it.
    boards: Vec<Board>,
    /// The server's time in microseconds, and ours then.
    times: Option<(u64, Tick)>,
}

impl Keeper {
    /// Connects.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        connector: Arc<Connector>,
        topics: Arc<Topics>,
        of_group: Vec<GroupTopic>,
    ) -> Result<Self, Error> {
        let link = connector.connect(connector.config.command_timeout).await?;
        let now = Instant::now();
        let mut keeper = Self {
            shared,
            connector,
            topics,
            of_group,
            link: None,
            clock: BootClock,
            renew_at: now,
            share_at: now,
            verify_at: now + VERIFY,
            soon: false,
            respite_until: now,
            boards: Vec::new(),
            times: None,
        };
        keeper.connected(link);
        Ok(keeper)
    }

    /// Works until the consumer is closed, or the task is ended.
    pub(crate) async fn run(mut self, done: oneshot::Sender<Result<(), Error>>) {
        let mut backoff = Backoff::default();
        let mut close_by = None;
        loop {
            let error = match self.work(&mut backoff).await {
                Ok(()) => {
                    // Nobody is there to hear it if the consumer was dropped.
                    let _ = done.send(Ok(()));
                    return;
                }
                Err(error) => error,
            };
            tracing::warn!(group = %self.shared.group, %error, "the keeper of the leases was interrupted");
            if self.shared.state.lock().closing {
                let by = *close_by.get_or_insert_with(|| Instant::now() + CLOSE_WITHIN);
                if Instant::now() >= by {
                    let text = format!("the group could not be left: {error}; what was unsettled comes back");
                    let _ = done.send(Err(Error::new(ErrorKind::Timeout, text)));
                    return;
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Goes round by round, until the consumer is closed.
    async fn work(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        if self.link.is_none() {
            let link = self.connector.connect(self.connector.config.command_timeout).await?;
            self.connected(link);
            self.respite();
        }
        loop {
            self.soon = false;
            match self.round().await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    backoff.reset();
                    self.wait().await;
                }
                Err(error) => {
                    if is_broken(&error) {
                        self.disconnected();
                    }
                    return Err(failed("keeping leases", error));
                }
            }
        }
    }

    /// Does what is due; answers whether the consumer is closed.
    async fn round(&mut self) -> RedisResult<bool> {
        self.end_undead().await?;
        if self.must_renew() {
            self.renew().await?;
        }
        self.settle().await?;
        self.let_go().await?;
        self.claim().await?;
        self.balance();
        if self.closing() {
            return self.leave().await;
        }
        let now = Instant::now();
        if now >= self.share_at {
            self.share().await?;
        }
        if now >= self.verify_at {
            self.verify_at = now + VERIFY;
            self.verify().await;
        }
        Ok(false)
    }

    /// Sleeps until something is due.
    async fn wait(&mut self) {
        let mut due = self.renew_at.min(self.share_at).min(self.verify_at);
        if self.soon {
            due = due.min(Instant::now() + SOON);
        }
        let shared = self.shared.clone();
        loop {
            if shared.has_many_to_settle() || (!self.soon && shared.has_errands()) {
                return;
            }
            if shared.to_settle() > 0 {
                due = due.min(Instant::now() + SETTLE_WITHIN);
            }
            tokio::select! {
                () = shared.keeper.notified() => {}
                () = tokio::time::sleep_until(due) => return,
            }
        }
    }

    fn closing(&self) -> bool {
        self.shared.state.lock().closing
    }

    fn connected(&mut self, link: Link) {
        *self.shared.settler.lock() = Some(link.conn.clone());
        self.link = Some(link);
        self.shared.state.lock().reader_registered = false;
        let now = Instant::now();
        self.renew_at = now;
        self.share_at = now;
    }

    /// The connection is lost. Maybe somebody ended it, as a successor does: nothing starts until we know better.
    fn disconnected(&mut self) {
        *self.shared.settler.lock() = None;
        let owned = {
            let mut state = self.shared.state.lock();
            state.undead.extend(self.link.take().map(|link| link.client));
            state.reader_registered = false;
            state.owned.clone()
        };
        for assignment in owned {
            self.shared.tell(Event::Renewed(assignment, Tick::default()));
        }
    }

    /// Lets the owners of leases that seem to have lapsed come back first.
    fn respite(&mut self) {
        self.respite_until = Instant::now() + self.shared.config.lease / 3;
        self.times = None;
    }

    /// Checks that topics have as many partitions as they had; makes what somebody deleted.
    async fn verify(&self) {
        for of_group in &self.of_group {
            match self.topics.verify(&of_group.topic).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => tracing::debug!(%error, "a topic could not be looked at"),
                Err(error) => self.shared.tell(Event::Failed(error)),
            }
        }
    }

    /// Asks several things in one round trip; errors that another connection might not have break it off.
    async fn ask(&mut self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let Some(link) = &mut self.link else { return Err(not_connected()) };
        let answers = link.conn.send_packed_commands(pipe, 0, pipe.len()).await?;
        for answer in &answers {
            if let Value::ServerError(error) = answer {
                let error = RedisError::from(error.clone());
                if is_broken(&error) {
                    return Err(error);
                }
            }
        }
        Ok(answers)
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }
}

fn not_connected() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}

fn misunderstood(what: &'static str) -> RedisError {
    (redis::ErrorKind::Parse, "an answer is not understood", what.to_owned()).into()
}
