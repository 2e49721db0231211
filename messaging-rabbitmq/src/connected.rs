//! [`Connected`]: a session while it has a connection: follows the plan, opens and closes channels, acknowledges what was
//! finished. The messages go past it, from the client to the [consumer](crate::consumer).
//!
//! A partition is given up in this order: nothing of it starts any more, what runs has ended, each finished message is
//! acknowledged, the queue has taken that, its channel is closed; only then are the others told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use messaging::{BootClock, Clock as _, Error, Tick};

use crate::{
    announcement::Announcement,
    consumer::{Leave, News},
    error::{is_missing, unavailable, while_doing},
    joined::{Joined, ping},
    membership::INTERVAL,
    partitions::{Event, Place},
    session::{Session, since_epoch},
};

/// How long a new member listens before it makes its first plan.
const LISTEN: Duration = Duration::from_millis(250);
/// How soon others hear of a change: what changes together is told together.
const SOON: Duration = Duration::from_millis(20);
/// Whoever has had no answer for this long does not announce itself: others should get in line for what it has.
const UNANSWERED: Duration = Duration::from_millis(2_500);

/// How a connection ended.
pub(crate) enum End {
    Left(Result<(), Error>),
    Lost(Error),
}

/// A session while it has a connection.
pub(crate) struct Connected<'a> {
    session: &'a mut Session,
    joined: Joined,
    /// When to make the first plan.
    listen_until: Instant,
    /// The plan may be another.
    replan: bool,
    /// When to announce next.
    announce_at: Instant,
    hello: bool,
    /// What is on its way.
    announcing: Option<Task<()>>,
    pinging: Option<(Tick, Task<Result<(), Error>>)>,
    ping_at: Instant,
    leave: Option<Leave>,
}

type Task<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

impl<'a> Connected<'a> {
    pub(crate) fn new(session: &'a mut Session, joined: Joined) -> Self {
        let now = Instant::now();
        Self {
            session,
            joined,
            listen_until: now + LISTEN,
            replan: true,
            announce_at: now,
            hello: true,
            announcing: None,
            pinging: None,
            ping_at: now + INTERVAL,
            leave: None,
        }
    }

    pub(crate) async fn run(mut self) -> End {
        let desk = self.session.desk.clone();
        loop {
            let mut changed = std::pin::pin!(desk.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            if let Some(reason) = self.obey(now) {
                return self.lose(reason).await;
            }
            if let Some(leave) = self.leave
                && (leave == Leave::AtOnce || self.session.partitions.is_idle())
            {
                return End::Left(self.say_goodbye(leave).await);
            }
            self.session.partitions.acknowledge_due(now);
            if self.session.partitions.due().is_some() {
                // What is settled until then may wait for it.
                desk.orders.lock().attended = true;
            }
            self.keep_up(now);
            let due = self.due();
            let lost = tokio::select! {
                biased;
                answer = wait_for(&mut self.pinging) => self.pinged(answer),
                () = wait(&mut self.announcing) => {
                    self.announcing = None;
                    None
                }
                heard = self.joined.heard.next() => self.heard(heard),
                event = self.session.partitions.next(&self.joined.link) => self.happened(event),
                () = changed => None,
                () = tokio::time::sleep_until(due.into()) => None,
            };
            if let Some(reason) = lost {
                return self.lose(reason).await;
            }
        }
    }

    /// Does what the consumer has asked for. Answers why the connection is lost, if it is.
    fn obey(&mut self, now: Instant) -> Option<Error> {
        let (begun, ended, settled, released) = {
            let mut orders = self.session.desk.orders.lock();
            self.leave = orders.leave;
            if orders.closing && !self.session.membership.is_closing() {
                self.session.membership.close();
                self.replan = true;
                self.announce_at = now;
            }
            orders.attended = false;
            let (begun, ended) = (std::mem::take(&mut orders.begun), std::mem::take(&mut orders.ended));
            (begun, ended, std::mem::take(&mut orders.settled), std::mem::take(&mut orders.released))
        };
        for (slot, generation) in begun {
            self.begin(slot, generation, now);
        }
        let mut lost = None;
        for (slot, generation, error) in ended {
            lost = self.ended(slot, generation, error, now).or(lost);
        }
        for noted in settled {
            self.session.partitions.note(noted.slot, noted.epoch, &noted.tags, noted.through, now);
        }
        for (slot, epoch) in released {
            let Some(asked_back) = self.session.partitions.release(&self.joined.link, slot, epoch) else { continue };
            if !asked_back && !self.session.membership.is_closing() && self.session.membership.has_others() {
                let Place { topic, partition, .. } = &self.session.places[slot];
                self.session.membership.decline(topic, *partition, now);
            }
        }
        lost
    }

    /// Whatever time asks for: announcements, a sign of life, the plan.
    fn keep_up(&mut self, now: Instant) {
        self.replan |= self.session.membership.pass(now);
        if self.announce_at <= now && self.announcing.is_none() {
            if self.is_answered() {
                self.announce(now, false);
            } else {
                self.announce_at = now + INTERVAL;
            }
        }
        if self.ping_at <= now && self.pinging.is_none() {
            self.ping_at = now + INTERVAL;
            let (control, link) = (self.joined.control.clone(), self.joined.link.clone());
            let asking = async move { link.answer("looking whether the connection lives", ping(&control)).await };
            self.pinging = Some((BootClock.now(), Box::pin(asking)));
        }
        if self.replan && now >= self.listen_until {
            self.follow_plan(now);
        }
    }

    /// Whether the broker has answered lately.
    fn is_answered(&self) -> bool {
        self.pinging.as_ref().is_none_or(|(asked, _)| BootClock.now().since(*asked) < UNANSWERED)
    }

    fn follow_plan(&mut self, now: Instant) {
        self.replan = false;
        // What we have is part of what the plan is made of.
        self.session.membership.announcement(self.session.partitions.holdings());
        let own = self.session.membership.plan();
        let mut moved = false;
        for slot in 0..self.session.places.len() {
            let place = &self.session.places[slot];
            if own.contains(&(place.topic.to_string(), place.partition)) {
                let free = !self.session.membership.others_keep(&place.topic, place.partition);
                moved |= free && self.session.partitions.want(&self.joined.link, slot, now);
            } else if let Some(epoch) = self.session.partitions.unwant(&self.joined.link, slot) {
                moved = true;
                // One that closes gives everything back by itself, and at its own pace.
                if !self.session.membership.is_closing() {
                    self.session.news.send_one(News::Revoking { slot, epoch });
                }
            }
        }
        if moved {
            self.announce_soon(now);
        }
    }

    fn announce_soon(&mut self, now: Instant) {
        self.announce_at = self.announce_at.min(now + SOON);
    }

    fn announce(&mut self, now: Instant, left: bool) {
        self.announce_at = now + INTERVAL;
        // Partitions that failed a moment ago are tried again.
        self.replan = true;
        let said = self.session.membership.announcement(self.session.partitions.holdings());
        let said = Announcement { hello: std::mem::take(&mut self.hello), left, ..said };
        let (announcer, exchange) = (self.session.announcer.clone(), self.session.exchange.clone());
        let group = self.session.subscription.group.clone();
        self.announcing = Some(Box::pin(async move {
            let text = serde_json::to_vec(&said).unwrap_or_default();
            if let Err(error) = announcer.announce(exchange, &text).await {
                tracing::warn!(%group, error = %error.duplicate(), "the others do not hear of this instance");
            }
        }));
    }

    /// The first message of a partition has come: it is ours, if we still want it.
    fn begin(&mut self, slot: usize, generation: u64, now: Instant) {
        let Session { partitions, membership, news, .. } = &mut *self.session;
        let micros = u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX);
        if let Some(epoch) = partitions.activate(slot, generation, || membership.next_epoch(micros)) {
            news.send_one(News::Assigned { slot, epoch, valid_until: self.joined.valid_until() });
            self.announce_soon(now);
        }
    }

    /// A partition's channel has ended by itself, perhaps with its connection.
    fn ended(&mut self, slot: usize, generation: u64, error: Option<lapin::Error>, now: Instant) -> Option<Error> {
        let epoch = self.session.partitions.ended(slot, generation, now)?;
        let Place { queue, .. } = &self.session.places[slot];
        let reason = error.map_or_else(|| "cancelled by the broker".to_owned(), |error| error.to_string());
        tracing::warn!(%queue, reason, "the broker ended a partition's channel; consuming it again");
        if let Some(epoch) = epoch {
            self.session.news.send_one(News::Lost { slot, epoch });
        }
        self.announce_soon(now);
        (!self.joined.link.connection.status().connected()).then(|| unavailable("the connection was lost"))
    }

    fn happened(&mut self, event: Event) -> Option<Error> {
        let now = Instant::now();
        match event {
            Event::Opened(deliveries) => {
                self.session.news.send_one(News::Opened(deliveries));
                None
            }
            Event::Failed { slot, error } => {
                let Place { queue, .. } = &self.session.places[slot];
                tracing::warn!(%queue, error = %error.duplicate(), "a partition cannot be consumed; trying again");
                // Somebody has deleted its queue: everything is declared anew with a new connection.
                let gone = is_missing(&error) || !self.joined.link.connection.status().connected();
                gone.then_some(error)
            }
            Event::Closed => {
                self.replan = true;
                self.announce_soon(now);
                None
            }
        }
    }

    fn heard(&mut self, heard: Option<lapin::Result<lapin::message::Delivery>>) -> Option<Error> {
        let delivery = match heard {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Some(while_doing("listening to the group", error)),
            None => return Some(unavailable("the connection was lost")),
        };
        match serde_json::from_slice(&delivery.data) {
            Ok(said) => {
                let now = Instant::now();
                let heard = self.session.membership.hear(said, now);
                self.replan |= heard.changed;
                if heard.asked {
                    self.announce_soon(now);
                }
            }
            Err(error) => tracing::warn!(%error, "an announcement of another version, or of somebody else"),
        }
        None
    }

    fn pinged(&mut self, answer: Result<(), Error>) -> Option<Error> {
        let (asked, _) = self.pinging.take()?;
        if let Err(error) = answer {
            return Some(error);
        }
        self.joined.alive = asked;
        self.session.news.send_one(News::Renewed { valid_until: self.joined.valid_until() });
        None
    }

    fn due(&self) -> Instant {
        let mut due = self.announce_at.max(Instant::now()).min(self.ping_at);
        if self.pinging.is_some() || self.announcing.is_some() {
            // Their own deadlines wake us.
            due = Instant::now() + INTERVAL;
        }
        if self.listen_until > Instant::now() {
            due = due.min(self.listen_until);
        }
        self.session.partitions.due().map_or(due, |acks| acks.min(due))
    }

    /// Tells the others, and closes the connection. Every channel that had something to settle is closed by now.
    async fn say_goodbye(mut self, leave: Leave) -> Result<(), Error> {
        if leave == Leave::Gracefully {
            if let Some(announcing) = self.announcing.take() {
                announcing.await;
            }
            self.announce(Instant::now(), true);
            if let Some(announcing) = self.announcing.take() {
                announcing.await;
            }
        }
        self.close().await;
        Ok(())
    }

    /// Everything is lost with the connection.
    async fn lose(self, reason: Error) -> End {
        for (slot, epoch) in self.session.partitions.active() {
            self.session.news.send_one(News::Lost { slot, epoch });
        }
        self.session.news.send_one(News::Disconnected);
        self.close().await;
        End::Lost(reason)
    }

    /// Closes the connection, which would live on without us, and keep its place in every line.
    async fn close(self) {
        let Joined { link, control, heard, .. } = self.joined;
        self.session.partitions.clear();
        drop((self.pinging, self.announcing, heard, control));
        if let Some(link) = Arc::into_inner(link) {
            link.close().await;
        }
    }
}

async fn wait<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn wait_for(task: &mut Option<(Tick, Task<Result<(), Error>>)>) -> Result<(), Error> {
    match task {
        Some((_, task)) => task.await,
        None => std::future::pending().await,
    }
}
