//! Members come, go, die and freeze, one after the other and at the same time, under load: for seconds in a test, for
//! minutes when somebody wants to know.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Letter, Promise, Sender, World,
    handover::{all_handled, handles},
    promise,
};
use crate::{
    failure::{Checked, require},
    member::{Member, MemberPlan},
};

/// The variable that says for how many seconds members come and go; 20 unless it is set.
pub const SECONDS: &str = "MESSAGING_CHURN_SECONDS";

pub(super) fn promise() -> Promise {
    promise!("C3", members_come_go_die_and_freeze_under_load, [Freeze, Processes])
}

/// For how long.
pub(super) fn time() -> Duration {
    let given = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(given.unwrap_or(20))
}

const MEMBERS: usize = 6;
const HANDLERS: usize = 16;
const KEYS: usize = 200;
const PER_SECOND: f64 = 2_000.0;
const WORK: Duration = Duration::from_millis(20);
/// The most messages at once, so that what was late is not made up for in one go.
const BATCH: usize = 200;
const TICK: Duration = Duration::from_millis(10);
const DRAIN: Duration = Duration::from_secs(5);
/// Longer than a session of Kafka's, a lease of Redis' and two heartbeats of RabbitMQ's.
const FREEZE: Duration = Duration::from_secs(11);
/// One of so many leaves is a death.
const DEATHS: usize = 6;
/// In so much time at least one joins and one leaves, and one freezes: in four minutes 60 do, and 10.
const COMES_AND_GOES: Duration = Duration::from_secs(4);
const FREEZES: Duration = Duration::from_secs(24);

/// What was done to members.
#[derive(Debug, Default)]
struct Done {
    joined: AtomicUsize,
    left: AtomicUsize,
    killed: AtomicUsize,
    frozen: AtomicUsize,
    frozen_idle: AtomicUsize,
}

impl Done {
    /// Whether as much was done as this time is for.
    fn check(&self, time: Duration) -> Checked {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let least = |each: Duration| ((time.as_millis() / each.as_millis()) as usize).max(1);
        let joined = of(&self.joined) - MEMBERS;
        require!(joined >= least(COMES_AND_GOES), "only {joined} joined in {} s", time.as_secs());
        let left = of(&self.left) + of(&self.killed);
        require!(left >= least(COMES_AND_GOES), "only {left} left in {} s", time.as_secs());
        let (busy, idle) = (of(&self.frozen), of(&self.frozen_idle));
        require!(
            busy + idle >= least(FREEZES),
            "only {busy} busy ones and {idle} idle ones froze in {} s",
            time.as_secs()
        );
        Ok(())
    }
}

struct Churn<'a> {
    world: &'a World,
    plan: MemberPlan,
    topic: String,
    /// Those that nobody does anything to at the moment, oldest first.
    members: Mutex<Vec<Member>>,
    paused: AtomicBool,
    over: AtomicBool,
    done: Done,
}

async fn members_come_go_die_and_freeze_under_load(world: &World) -> Checked {
    let topic = world.topic("letters", 24).await?;
    let plan = MemberPlan::new(&world.name("readers"), &[&topic]).concurrency(HANDLERS);
    world.subscribe(&plan).await?;
    let (group, sender) = (plan.group.clone(), world.sender().await?);
    let churn = Churn {
        world,
        plan,
        topic,
        members: Mutex::default(),
        paused: AtomicBool::new(false),
        over: AtomicBool::new(false),
        done: Done::default(),
    };
    let (publishing, ()) = tokio::try_join!(churn.publish(&sender), churn.for_a_while(Instant::now() + time()))?;
    all_handled(world, &group).await?;
    let members = std::mem::take(&mut *churn.members.lock());
    for member in members {
        member.stop(DRAIN).await?;
    }
    world.drained(&group, &[&churn.topic]).await?;
    sender.close().await?;
    let mut owed = world.owed(&group, &[&churn.topic]).concurrency(HANDLERS).drained();
    if world.pace.frozen_lose {
        owed = owed.lapse(FREEZE);
    }
    let report = world.judge(owed)?;
    let (seconds, figures) = (publishing.as_secs_f64(), report.figures);
    let rate = figures.confirmed as f64 / seconds;
    println!("{:?}; for {seconds:.0} s {rate:.0} messages a second: {figures}", churn.done);
    churn.done.check(time())
}

impl Churn<'_> {
    /// Publishes at its rate, whatever becomes of members, until it is over; answers for how long it was not paused.
    async fn publish(&self, sender: &Sender) -> Checked<Duration> {
        let mut tick = tokio::time::interval(TICK);
        let (mut owed, mut publishing) = (0.0, Duration::ZERO);
        let mut then = tick.tick().await;
        while !self.over.load(Ordering::Relaxed) {
            let now = tick.tick().await;
            let passed = now - std::mem::replace(&mut then, now);
            if self.paused.load(Ordering::Relaxed) {
                continue;
            }
            publishing += passed;
            owed += passed.as_secs_f64() * PER_SECOND;
            let count = (owed as usize).min(BATCH);
            owed -= count as f64;
            let letters: Vec<Letter> = (0..count).map(|_| self.letter()).collect();
            sender.publish_all(&letters).await?;
        }
        Ok(publishing)
    }

    fn letter(&self) -> Letter {
        let most = WORK.as_micros() as u64;
        let (key, work) = self.world.random(|random| (random.usize(..KEYS), random.u64(..=most)));
        self.world.letter(&self.topic).key(format!("key-{key}")).work(Duration::from_micros(work))
    }

    async fn for_a_while(&self, until: Instant) -> Checked {
        for _ in 0..MEMBERS {
            self.join().await?;
        }
        let ended = tokio::try_join!(self.come_and_go(until), self.freeze_and_thaw(until));
        self.over.store(true, Ordering::Relaxed);
        ended.map(drop)
    }

    async fn join(&self) -> Checked {
        let member = self.world.mortal(&self.plan).await?;
        self.members.lock().push(member);
        self.done.joined.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Any one that nobody does anything to, if there are others beside it.
    fn take(&self) -> Option<Member> {
        let mut members = self.members.lock();
        let which = self.world.random(|random| random.usize(..members.len().max(1)));
        (members.len() > 2).then(|| members.remove(which))
    }

    /// One leaves, or dies; another joins in its stead, sometimes before.
    async fn come_and_go(&self, until: Instant) -> Checked {
        for turn in 1.. {
            let (pause, joins_first) = self.world.random(|random| (random.u64(200..1_500), random.bool()));
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if Instant::now() >= until {
                break;
            }
            if joins_first {
                self.join().await?;
            }
            if let Some(member) = self.take() {
                if turn % DEATHS == 0 {
                    member.kill().await?;
                    self.done.killed.fetch_add(1, Ordering::Relaxed);
                } else {
                    member.stop(DRAIN).await?;
                    self.done.left.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !joins_first {
                self.join().await?;
            }
        }
        Ok(())
    }

    /// One freezes until others have its partitions, in the midst of its work and idle in turn.
    async fn freeze_and_thaw(&self, until: Instant) -> Checked {
        let mut idle = true;
        while Instant::now() < until {
            let Some(member) = self.take() else {
                tokio::time::sleep(TICK).await;
                continue;
            };
            if idle {
                self.paused.store(true, Ordering::Relaxed);
                all_handled(self.world, &self.plan.group).await?;
            } else {
                handles(self.world, &self.plan.group, &member, HANDLERS).await?;
            }
            member.freeze()?;
            self.paused.store(false, Ordering::Relaxed);
            tokio::time::sleep(FREEZE).await;
            member.thaw()?;
            // It must come back as a member like any other.
            handles(self.world, &self.plan.group, &member, HANDLERS).await?;
            self.members.lock().push(member);
            let frozen = if idle { &self.done.frozen_idle } else { &self.done.frozen };
            frozen.fetch_add(1, Ordering::Relaxed);
            idle = !idle;
        }
        Ok(())
    }
}
