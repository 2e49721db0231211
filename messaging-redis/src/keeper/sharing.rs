//! Sharing partitions with the other members: announcing what we hold, seeing who lives, acting on what follows.

use std::time::Duration;

use redis::{Pipeline, RedisResult, Value};
use tokio::time::Instant;

use super::{CHUNK, Keeper, misunderstood};
use crate::{
    membership::{self, Member, Plan},
    scripts,
    shared::Event,
};

/// How often members announce themselves.
const ANNOUNCE: Duration = Duration::from_millis(250);

impl Keeper {
    /// Announces this member for every topic, and does what its share asks for.
    pub(super) async fn share(&mut self) -> RedisResult<()> {
        self.share_at = Instant::now() + ANNOUNCE.mul_f64(0.9 + 0.2 * fastrand::f64());
        let (ready, leaving) = {
            let state = self.shared.state.lock();
            (state.reader_registered && state.undead.is_empty(), state.stopping || state.closing)
        };
        let mut plans = Vec::with_capacity(self.of_group.len());
        for first in (0..self.of_group.len()).step_by(CHUNK) {
            let topics = first..(first + CHUNK).min(self.of_group.len());
            let mut pipe = Pipeline::with_capacity(topics.len());
            for topic in topics.clone() {
                let of_group = &self.of_group[topic];
                let held = self.shared.state.lock().of_topic(&of_group.topic.name);
                let held: Vec<u32> = held.iter().map(|assignment| assignment.partition).collect();
                let cmd = pipe.add_command(scripts::ANNOUNCE.call(&[&of_group.members]));
                cmd.arg(&self.shared.id).arg(self.shared.config.lease.as_micros() as u64);
                cmd.arg(Member::record(leaving, &held));
            }
            for (topic, answer) in topics.zip(self.ask(&pipe).await?) {
                if let Value::ServerError(error) = answer {
                    return Err(error.into());
                }
                let (now, members) = membership::read(answer).ok_or_else(|| misunderstood("announcing"))?;
                self.check_clock(now);
                plans.push((topic, self.plan(topic, &members)));
            }
        }
        for (topic, plan) in plans {
            self.give_up(topic, plan.give_up);
            if ready && !leaving {
                self.take(topic, plan).await?;
            }
        }
        Ok(())
    }

    fn plan(&self, topic: usize, members: &[Member]) -> Plan {
        let topic = &self.of_group[topic].topic;
        let held = self.shared.state.lock().of_topic(&topic.name);
        let letting_go = held.iter().filter(|assignment| assignment.is_revoking() || assignment.is_released()).count();
        membership::plan(&topic.name, topic.partitions(), members, &self.shared.id, letting_go)
    }

    /// Asks the executor to let go of so many partitions.
    fn give_up(&self, topic: usize, count: usize) {
        let mut held = self.shared.state.lock().of_topic(&self.of_group[topic].topic.name);
        held.retain(|assignment| !assignment.is_revoking() && !assignment.is_released());
        held.sort_by_key(|assignment| std::cmp::Reverse(assignment.partition));
        for assignment in held.into_iter().take(count) {
            assignment.revoke();
            self.shared.tell(Event::Revoked(assignment));
            self.shared.reader.notify_one();
        }
    }

    async fn take(&mut self, topic: usize, plan: Plan) -> RedisResult<()> {
        let now = Instant::now();
        self.of_group[topic].avoided.retain(|(_, until)| *until > now);
        let of_group = &self.of_group[topic];
        let avoided = |partition: &u32| of_group.avoided.iter().any(|(avoided, _)| avoided == partition);
        let held = self.shared.state.lock().of_topic(&of_group.topic.name);
        let free = plan.take.into_iter().filter(|partition| {
            !avoided(partition)
                && !held.iter().any(|assignment| assignment.partition == *partition)
                && self.shared.is_quiet(&of_group.topic.streams[*partition as usize])
        });
        let free: Vec<u32> = free.collect();
        if plan.take_at_most == 0 || free.is_empty() {
            return Ok(());
        }
        if self.acquire(topic, &free, plan.take_at_most).await? > 0 {
            // The others are to know at once.
            self.share_at = now;
        }
        Ok(())
    }

    /// If the server's clock was set forward, every lease seems to have lapsed: their owners renew them first.
    fn check_clock(&mut self, server: u64) {
        let here = self.now();
        if let Some((server_then, then)) = self.times {
            let passed = here.since(then) + self.shared.config.lease / 3;
            if Duration::from_micros(server.saturating_sub(server_then)) > passed {
                tracing::warn!(group = %self.shared.group, "the server's clock was set forward");
                self.respite();
            }
        }
        self.times = Some((server, here));
    }

    /// Once everything is let go: leaves the group. Answers whether that is done.
    pub(super) async fn leave(&mut self) -> RedisResult<bool> {
        if !self.shared.state.lock().owned.is_empty() {
            return Ok(false);
        }
        let mut pipe = Pipeline::with_capacity(self.of_group.len());
        for of_group in &self.of_group {
            pipe.cmd("HDEL").arg(&of_group.members).arg(&self.shared.id);
        }
        self.ask(&pipe).await?;
        Ok(true)
    }
}
