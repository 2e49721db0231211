//! [`Driver`]: the task behind a publisher.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::BoxStream};
use hashbrown::HashMap;
use lapin::{Channel, Confirmation, Event, options::ConfirmSelectOptions};
use messaging::{Batch, Error, ErrorKind, Name, Outcome};

use super::{
    Desk,
    confirms::{Answers, Confirms},
    outstanding::Outstanding,
    topic::Topic,
};
use crate::{
    error::{unavailable, while_doing},
    link::{Link, Links},
    topology::Topology,
    wire::{self, Writer},
};

/// What a frame of properties needs beside them.
const FRAME_ROOM: usize = 1_024;
/// So many answers are read at most before they are given on.
const READ_AHEAD: usize = 1_024;
/// Nothing is sent into a window of which less than this part is free.
const WORTH_WHILE: usize = 16;
/// How long to wait before a lost connection is tried again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) struct Driver {
    links: Arc<Links>,
    desk: Arc<Desk>,
    deadline: Duration,
    outstanding: Outstanding,
    topics: HashMap<Name, Topic>,
    writer: Writer,
    confirms: Confirms,
    /// An emptied buffer.
    answers: Answers,
    open: Option<Arc<Open>>,
    /// A connection that is being opened, or a topic that is being looked at.
    opening: Option<Task<Result<Arc<Open>, Error>>>,
    learning: Option<Task<(Name, Result<u32, Error>)>>,
    events: BoxStream<'static, Event>,
    blocked: Option<String>,
    backoff: Duration,
    closing: Option<Instant>,
}

/// A connection that can be published on.
pub(super) struct Open {
    link: Link,
    pub(super) channel: Channel,
}

impl Open {
    async fn new(link: Link) -> Result<Arc<Self>, Error> {
        let channel = link.channel().await?;
        link.answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Arc::new(Self { link, channel }))
    }
}

impl Driver {
    pub(super) async fn new(links: Arc<Links>, desk: Arc<Desk>, deadline: Duration, link: Link) -> Result<Self, Error> {
        let writer = Writer::new(&links.config.attribute_prefix);
        let mut driver = Self {
            links,
            desk,
            deadline,
            outstanding: Outstanding::default(),
            topics: HashMap::new(),
            writer,
            confirms: Confirms::default(),
            answers: Answers::default(),
            open: None,
            opening: None,
            learning: None,
            events: futures::stream::pending().boxed(),
            blocked: None,
            backoff: BACKOFF.0,
            closing: None,
        };
        let open = Open::new(link).await?;
        driver.opened(open);
        Ok(driver)
    }

    /// Runs until closed. Answers whether every message had its answer by then.
    pub(super) async fn run(mut self) -> bool {
        let desk = self.desk.clone();
        loop {
            let mut changed = pin!(desk.changed.notified());
            // Registered before looking, so that nothing is missed.
            changed.as_mut().enable();
            self.collect();
            if let Some(done) = self.finished() {
                self.close().await;
                return done;
            }
            self.send();
            let due = self.due();
            tokio::select! {
                biased;
                () = self.confirms.ready() => self.answered(),
                event = self.events.next() => self.happened(event),
                opened = wait(&mut self.opening) => self.connected(opened),
                learnt = wait(&mut self.learning) => self.learnt(learnt),
                () = changed => {}
                () = tokio::time::sleep_until(due.into()) => self.expire(),
            }
        }
    }

    fn collect(&mut self) {
        let (batches, closing) = self.desk.collect();
        batches.into_iter().for_each(|batch| self.outstanding.add(batch));
        self.closing = closing;
    }

    /// Whether it is time to end, and whether everything was answered.
    fn finished(&self) -> Option<bool> {
        let deadline = self.closing?;
        if self.outstanding.is_empty() {
            return Some(true);
        }
        (Instant::now() >= deadline).then_some(false)
    }

    async fn close(self) {
        let Self { open, opening, learning, confirms, .. } = self;
        drop((opening, learning, confirms));
        if let Some(Open { link, channel }) = open.and_then(Arc::into_inner) {
            drop(channel);
            link.close().await;
        }
    }

    /// Sends as much as may be sent.
    fn send(&mut self) {
        if self.open.is_some() && !self.is_connected() {
            self.lost(unavailable("the connection was lost"));
        }
        if self.open.is_none() && self.opening.is_none() {
            self.reconnect();
        }
        let may_send = self.blocked.is_none() && self.learning.is_none() && self.has_room();
        let Some(open) = self.open.clone().filter(|_| may_send) else { return };
        let largest = open.link.connection.configuration().frame_max() as usize - FRAME_ROOM;
        let mut done = Vec::new();
        while self.room() > 0 {
            let Some(place) = self.outstanding.next() else { break };
            let Some(message) = self.outstanding.message(place) else { break };
            let refusal = if self.outstanding.follows_failed(place) {
                Some(Outcome::rejected("not sent: an earlier message of its key was not confirmed"))
            } else if wire::properties_weight(message) > largest {
                let topic = &message.topic;
                Some(Outcome::rejected(format!(
                    "key and headers of a message for topic {topic:?} do not fit into {largest} bytes, one AMQP frame"
                )))
            } else {
                None
            };
            if let Some(refusal) = refusal {
                done.extend(self.outstanding.answer(place, refusal));
                continue;
            }
            let Some(topic) = self.topics.get_mut(&message.topic) else {
                self.learning = Some(learn(self.links.clone(), open, message.topic.clone()));
                break;
            };
            let partition = topic.partition(message);
            let properties = match self.writer.properties(message) {
                Ok(properties) => properties,
                Err(reason) => {
                    done.extend(self.outstanding.answer(place, Outcome::rejected(reason)));
                    continue;
                }
            };
            let route = (topic.exchange.clone(), topic.keys[partition as usize].clone());
            let Some(payload) = self.outstanding.sent(place, partition) else { break };
            if let Err(error) = self.confirms.publish(place, &open, route, payload, properties) {
                drop(done);
                self.lost(while_doing("publishing", error));
                return;
            }
        }
        // Outside the loop: the end of a batch lets the next one in.
        drop(done);
    }

    /// How many may be sent. Answers make room once they are read.
    fn room(&self) -> usize {
        let window = self.links.config.confirm_window + self.confirms.read_ahead();
        window.saturating_sub(self.outstanding.unconfirmed())
    }

    /// Whether there is room for so many that it is worth while: one for each that is confirmed would wake the client's
    /// thread every time.
    fn has_room(&self) -> bool {
        self.room() >= self.links.config.confirm_window.div_ceil(WORTH_WHILE)
    }

    /// Takes every answer that is there before giving any on: a return comes with some confirm, not always its own.
    fn answered(&mut self) {
        // What reading frees, sending uses again while it is in the cache. A failure may hold back what is sent next.
        while self.confirms.read_ahead() < READ_AHEAD && self.confirms.read_one() && !self.confirms.has_failure() {
            if self.has_room() {
                self.send();
            }
        }
        let Some(open) = &self.open else { return };
        let mut answers = std::mem::take(&mut self.answers);
        self.confirms.answers(&open.channel, &mut answers);
        let mut failure = None;
        let mut done: Vec<Batch> = Vec::new();
        for (place, answer) in answers.others.drain(..) {
            let back = match answer {
                Ok(Confirmation::Ack(back)) => {
                    answers.confirmed.push(place);
                    back
                }
                Ok(Confirmation::Nack(back)) => {
                    // Another group's queue may hold it.
                    done.extend(self.outstanding.answer(place, Outcome::unknown("the broker refused to confirm it")));
                    back
                }
                Ok(Confirmation::NotRequested) => None,
                Err(error) => {
                    failure.get_or_insert(error);
                    None
                }
            };
            if let Some(back) = back
                && !self.outstanding.returned(place, &back, &mut self.writer)
            {
                tracing::warn!(exchange = %back.exchange, "the broker returned a message that is not outstanding");
            }
        }
        done.extend(answers.confirmed.drain(..).filter_map(|place| self.outstanding.confirmed(place)));
        self.answers = answers;
        if let Some(error) = failure {
            self.lost(while_doing("publishing", error));
        }
        drop(done);
    }

    fn happened(&mut self, event: Option<Event>) {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker blocks publishing: messages wait");
                self.blocked = Some(reason);
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("the broker takes messages again");
                self.blocked = None;
            }
            // Errors of other channels are told here too.
            Some(Event::Error(error)) if !self.is_connected() => self.lost(while_doing("publishing", error)),
            Some(_) => {}
            None => self.lost(unavailable("the connection ended")),
        }
    }

    /// The connection or its channel is gone: what was sent and not confirmed is unknown.
    fn lost(&mut self, reason: Error) {
        if self.open.take().is_none() {
            return;
        }
        tracing::warn!(
            error = %reason.duplicate(), unconfirmed = self.outstanding.unconfirmed(), "the publisher lost its connection"
        );
        self.events = futures::stream::pending().boxed();
        self.confirms = Confirms::default();
        self.learning = None;
        self.blocked = None;
        // It may have been the lack of an exchange.
        self.topics.clear();
        drop(self.outstanding.lose_sent(&reason));
    }

    fn is_connected(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.link.connection.status().connected() && open.channel.status().connected())
    }

    fn reconnect(&mut self) {
        let (links, pause) = (self.links.clone(), self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        self.opening = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Open::new(links.open("messaging: publisher").await?).await
        }));
    }

    fn connected(&mut self, opened: Result<Arc<Open>, Error>) {
        self.opening = None;
        match opened {
            Ok(open) => self.opened(open),
            Err(error) => tracing::warn!(error = %error.duplicate(), "the publisher cannot connect; trying again"),
        }
    }

    fn opened(&mut self, open: Arc<Open>) {
        self.backoff = BACKOFF.0;
        self.events = open.link.connection.events_listener().boxed();
        self.open = Some(open);
    }

    fn learnt(&mut self, (name, learnt): (Name, Result<u32, Error>)) {
        self.learning = None;
        let topic = learnt.and_then(|partitions| Topic::new(&name, partitions));
        match topic {
            Ok(topic) => {
                self.topics.insert(name, topic);
            }
            Err(error) => {
                // Whoever waits for this topic is told; an unreachable broker shows on the connection too.
                let outcome = || Outcome::Rejected(Error::new(error.kind(), error.duplicate().to_string()));
                let mut done = Vec::new();
                while let Some(place) = self.outstanding.next() {
                    if self.outstanding.message(place).is_none_or(|message| message.topic != name) {
                        break;
                    }
                    done.extend(self.outstanding.answer(place, outcome()));
                }
                drop(done);
            }
        }
    }

    /// When something is to be given up, or looked at.
    fn due(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3_600);
        let due = self.outstanding.oldest().map_or(far, |oldest| oldest + self.patience());
        // Not again and again for what was sent a little before its time.
        let due = due.max(Instant::now() + Duration::from_millis(20));
        let due = self.confirms.due().map_or(due, |looking| due.min(looking));
        self.closing.map_or(due, |closing| due.min(closing))
    }

    /// How long a message may wait to be sent: a little less than its sender waits for an answer, who would otherwise
    /// have to take it for unknown.
    fn patience(&self) -> Duration {
        self.deadline - (self.deadline / 20).min(Duration::from_millis(500))
    }

    fn expire(&mut self) {
        // The answer of what is about to be given up may lie behind a missing one.
        let late = self.outstanding.oldest().is_some_and(|oldest| oldest.elapsed() >= self.patience());
        if let Some(open) = &self.open
            && self.confirms.look_around(&open.channel, late)
        {
            self.answered();
        }
        let why = || {
            let reason = match (&self.blocked, &self.open) {
                (Some(reason), _) => format!("the broker blocks publishing ({reason})"),
                (None, None) => "the broker cannot be reached".to_owned(),
                (None, Some(_)) => "the broker is slow to confirm earlier messages".to_owned(),
            };
            Error::new(ErrorKind::Timeout, format!("not sent within the publish deadline: {reason}"))
        };
        let done = self.outstanding.expire(self.patience(), self.deadline, why);
        drop(done);
        // Answers that never come would fill the channel.
        if self.confirms.len() > self.outstanding.unconfirmed() + self.links.config.confirm_window {
            self.lost(unavailable("the broker has left too many messages unconfirmed"));
        }
    }
}

fn learn(links: Arc<Links>, open: Arc<Open>, topic: Name) -> Task<(Name, Result<u32, Error>)> {
    Box::pin(async move {
        let facts = Topology { links: &links, link: &open.link }.topic(&topic).await;
        (topic, facts.map(|facts| facts.partitions))
    })
}

/// Waits for what is under way; for ever if nothing is.
async fn wait<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}
