//! [`World`]: what one test has: a cluster, names of its own, a log, chance; and what tests do with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

use messaging::{
    Broker, Capabilities, DeadLetter, Delivery, Messaging, MessagingOptions, Position, TopicSpec, dead_letter_topic,
    telemetry,
};
use parking_lot::Mutex;

use super::{Promise, Sender};
use crate::{
    checker::{Expectations, Figures, GroupExpectation, Report, check},
    factory::{Cluster, Factory, Need, Pace},
    failure::{Checked, Failure, require},
    history::{GroupTally, Log, What, payload_hash},
    member::{Gates, InProcess, Member, MemberPlan, Process, Recorder},
    metering,
    script::id,
};

/// How often a broker is asked again for what is awaited.
const ASK_AGAIN: Duration = Duration::from_millis(40);
/// How many messages are browsed at once.
const PAGE: usize = 1_000;

/// What one test has.
pub struct World {
    pub(crate) factory: Arc<dyn Factory>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) log: Arc<Log>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) pace: Pace,
    pub(super) ids: AtomicU64,
    names: String,
    numbers: AtomicUsize,
    random: Mutex<fastrand::Rng>,
    /// One connection for what the test itself asks.
    broker: Arc<dyn Broker>,
    figures: Arc<Mutex<Figures>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("names", &self.names).finish_non_exhaustive()
    }
}

impl World {
    pub(super) async fn new(
        factory: Arc<dyn Factory>,
        promise: &Promise,
        pace: Pace,
        seed: u64,
        figures: Arc<Mutex<Figures>>,
    ) -> Checked<Self> {
        let alone = promise.needs.contains(&Need::Server);
        let cluster = if alone { factory.own().await? } else { factory.shared().await? };
        let broker = cluster.connect().await?;
        // Another one for each test, and the same for the same seed.
        let random = fastrand::Rng::with_seed(seed ^ payload_hash(promise.name.as_bytes()));
        let short: String = promise.name.chars().take(40).collect();
        // Not by the seed: a broker that outlives a run has the names of those before.
        let names = format!("{short}-{:08x}", fastrand::u32(..));
        Ok(Self {
            factory,
            cluster,
            log: Arc::default(),
            gates: Arc::default(),
            pace,
            ids: AtomicU64::new(1),
            names,
            numbers: AtomicUsize::new(0),
            random: Mutex::new(random),
            broker,
            figures,
        })
    }

    /// Something by chance.
    pub(crate) fn random<T>(&self, choose: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        choose(&mut self.random.lock())
    }

    /// Messages in another order, by chance.
    pub(crate) fn shuffled<T>(&self, mut items: Vec<T>) -> Vec<T> {
        self.random(|random| random.shuffle(&mut items));
        items
    }

    /// A name that no other test has.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.names)
    }

    fn numbered(&self, what: &str) -> Arc<str> {
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("{what}-{number}").into()
    }

    /// A new topic with so many partitions.
    pub(crate) async fn topic(&self, what: &str, partitions: u32) -> Checked<String> {
        let topic = self.name(what);
        let mut spec = TopicSpec::default();
        spec.partitions = partitions;
        self.broker.admin().ensure_topic(&topic, &spec).await?;
        self.cluster.keep(&topic).await?;
        Ok(topic)
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// A connection of its own, to publish and to run groups on.
    pub(crate) async fn messaging(&self) -> Checked<Messaging> {
        let broker = self.cluster.connect().await?;
        Ok(Messaging::new(broker, MessagingOptions::default()).await?)
    }

    /// A publisher with a connection of its own.
    pub(crate) async fn sender(&self) -> Checked<Sender> {
        Ok(self.sender_on(self.messaging().await?))
    }

    /// A publisher on this connection.
    pub(crate) fn sender_on(&self, messaging: Messaging) -> Sender {
        Sender::new(self.numbered("publisher"), self.log.clone(), messaging)
    }

    /// A member in this process, with a connection of its own.
    pub(crate) async fn member(&self, plan: &MemberPlan) -> Checked<Member> {
        let broker = self.cluster.connect().await?;
        self.member_on(broker, plan).await
    }

    /// A member in this process on this connection.
    pub(crate) async fn member_on(&self, broker: Arc<dyn Broker>, plan: &MemberPlan) -> Checked<Member> {
        let name = self.numbered("member");
        let recorder = Recorder::to_log(name.clone(), plan.group.as_str().into(), self.log.clone());
        let body = InProcess::start(broker, plan, &recorder, &Gates::of_member(&self.gates)).await?;
        let body = body.severable(self.cluster.sever(&plan.group));
        Ok(Member::in_process(name, self.log.clone(), body))
    }

    /// A member that may be killed and frozen: a process of its own, where other processes can reach the cluster.
    pub(crate) async fn mortal(&self, plan: &MemberPlan) -> Checked<Member> {
        let Some(url) = self.cluster.url() else { return self.member(plan).await };
        let name = self.numbered("member");
        let joined = self.log.look(|tally| tally.group(&plan.group).joined);
        let body = Process::start(url, &name, plan, &self.log).await?;
        self.log.wait(self.pace.patience, "a process joins", |tally| tally.group(&plan.group).joined > joined).await?;
        Ok(Member::process(name, self.log.clone(), body))
    }

    /// Makes the group known, so that it is owed what is published from now on. Where history is kept, nothing is to be
    /// done.
    pub(crate) async fn subscribe(&self, plan: &MemberPlan) -> Checked {
        if self.capabilities().retains_history {
            return Ok(());
        }
        self.member(plan).await?.stop(Duration::from_secs(1)).await
    }

    /// Waits for something to be seen.
    pub(crate) async fn until(&self, what: &str, group: &str, wanted: impl Fn(&GroupTally) -> bool) -> Checked {
        let waited = self.log.wait(self.pace.patience, what, |tally| wanted(tally.group(group))).await;
        waited.map_err(|overdue| {
            let seen = self.log.look(|tally| {
                let GroupTally { joined, started, running, handled, failed, .. } = tally.group(group);
                let distinct = tally.group(group).distinct();
                format!("{joined} joined, {started} started, {running} running, {handled} handled ({distinct} different), {failed} failed")
            });
            Failure::new(format!("{overdue}; seen of {group}: {seen}"))
        })
    }

    /// Waits until the group has handled so many different messages.
    pub(crate) async fn handled(&self, group: &str, count: usize) -> Checked {
        self.until(&format!("{count} handled"), group, |seen| seen.distinct() >= count).await
    }

    /// Asks the broker until it answers as wanted.
    pub(crate) async fn ask<T, F>(&self, what: &str, mut question: impl FnMut() -> F) -> Checked<T>
    where
        F: Future<Output = Checked<Option<T>>>,
    {
        let deadline = Instant::now() + self.pace.patience;
        loop {
            let answer = question().await;
            if let Ok(Some(answer)) = answer {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                let last = answer.err().map(|failure| format!(": {failure}")).unwrap_or_default();
                return Err(Failure::new(format!("not in time: {what}{last}")));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// What the broker says is not settled.
    pub(crate) async fn lag(&self, group: &str, topic: &str) -> Checked<u64> {
        Ok(self.broker.admin().progress(group, topic).await?.iter().map(|row| row.lag).sum())
    }

    /// Waits until the broker has nothing left for the group, and records what it has.
    pub(crate) async fn drained(&self, group: &str, topics: &[&str]) -> Checked {
        for topic in topics {
            let lag = || self.lag(group, topic);
            let empty = self.ask("nothing left", async || Ok((lag().await? == 0).then_some(()))).await;
            let lag = if empty.is_ok() { 0 } else { lag().await? };
            self.note(What::Residue { group: group.into(), topic: (*topic).into(), lag });
        }
        Ok(())
    }

    /// Everything that stands in a topic, partition by partition.
    pub(crate) async fn stored(&self, topic: &str) -> Checked<Vec<Delivery>> {
        let admin = self.broker.admin();
        let Some(info) = admin.describe(topic).await? else { return Ok(Vec::new()) };
        let mut stored = Vec::new();
        for partition in 0..info.partitions {
            let mut from = Position::default();
            loop {
                let page = admin.browse(topic, partition, from, PAGE).await?;
                let Some(last) = page.last() else { break };
                from = Position { major: last.position.major, minor: last.position.minor + 1 };
                let full = page.len() == PAGE;
                stored.extend(page);
                if !full {
                    break;
                }
            }
        }
        Ok(stored)
    }

    /// Waits for a group's dead letters from a topic, and records all there are.
    pub(crate) async fn dead_letters(&self, group: &str, topic: &str, count: usize) -> Checked<Vec<Dead>> {
        let letters = dead_letter_topic(topic, group);
        let enough = async || {
            let found = self.stored(&letters).await?;
            Ok((found.len() >= count).then_some(found))
        };
        let found = self.ask(&format!("{count} dead letters"), enough).await?;
        let mut dead = Vec::new();
        for delivery in found {
            let letter = DeadLetter::read(&delivery.message)?;
            require!(letter.group == *group, "a dead letter of {} among those of {group}", letter.group);
            self.note(What::DeadLettered {
                group: group.into(),
                id: id(&delivery.message),
                hash: payload_hash(&delivery.message.payload),
                attempts: letter.attempts,
            });
            dead.push(Dead { letter, delivery });
        }
        Ok(dead)
    }

    /// How many handlers have started on a message.
    pub(crate) fn starts_of(&self, id: u64) -> usize {
        let history = self.log.history();
        let starts = history
            .records()
            .iter()
            .filter(|record| matches!(&record.what, What::Started(start) if start.id == Some(id)));
        starts.count()
    }

    /// Records something that the test did or saw.
    pub(crate) fn note(&self, what: What) {
        self.log.record(&"test".into(), what);
    }

    /// Has the checker judge what happened, with what the groups of this process counted.
    pub(crate) fn judge(&self, expectations: impl Into<Expectations>) -> Checked<Report> {
        let expectations = expectations.into();
        for group in expectations.names() {
            let skipped = metering::counter(telemetry::SKIPPED, group);
            let lost = metering::counter(telemetry::LOST, group);
            self.note(What::Skipped { group: group.clone(), count: skipped });
            self.note(What::ReportedLost { group: group.clone(), count: lost });
        }
        let report = check(&self.log.history(), &expectations);
        self.figures.lock().add(&report.figures);
        Ok(report.verdict()?)
    }

    /// What a group is held to by default.
    pub(crate) fn owed(&self, group: &str, topics: &[&str]) -> GroupExpectation {
        let topics = topics.iter().copied();
        GroupExpectation::new(group, topics).strict_epochs(self.capabilities().fencing_token)
    }
}

/// A dead letter that was found.
pub(crate) struct Dead {
    pub(crate) letter: DeadLetter,
    pub(crate) delivery: Delivery,
}
