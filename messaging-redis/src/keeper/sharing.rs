//! Sharing partitions with the other members: announcing what we hold, seeing who lives, acting on what follows.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, RedisResult, Value};
use tokio::time::Instant;

use super::{CHUNK, Keeper, misunderstood};
use crate::{
    assignment::Assignment,
    membership::{self, Board, Duties},
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
        let boards = self.announce(leaving).await?;
        if boards == self.boards {
            return Ok(());
        }
        let duties = membership::duties(&boards, &self.shared.id);
        // Nothing to be done: until somebody says something else, nothing will be.
        self.boards = if duties == Duties::default() { boards } else { Vec::new() };
        if leaving {
            // What the executor still holds, it lets go by itself.
            return Ok(());
        }
        self.let_go_of(&duties.let_go);
        if ready {
            self.take(&duties.take).await?;
        }
        Ok(())
    }

    async fn announce(&mut self, leaving: bool) -> RedisResult<Vec<Board>> {
        let mut boards = Vec::with_capacity(self.of_group.len());
        for first in (0..self.of_group.len()).step_by(CHUNK) {
            let topics = first..(first + CHUNK).min(self.of_group.len());
            let mut pipe = Pipeline::with_capacity(topics.len());
            for of_group in &self.of_group[topics.clone()] {
                let held = self.shared.state.lock().of_topic(&of_group.topic.name);
                let is_going = |assignment: &&Arc<Assignment>| assignment.is_revoking() || assignment.is_released();
                let letting_go: Vec<u32> = held.iter().filter(is_going).map(|held| held.partition).collect();
                let held: Vec<u32> = held.iter().map(|held| held.partition).collect();
                let cmd = pipe.add_command(scripts::ANNOUNCE.call(&[&of_group.members]));
                cmd.arg(&self.shared.id).arg(self.shared.config.lease.as_micros() as u64);
                cmd.arg(membership::record(leaving, &held, &letting_go));
            }
            for (topic, answer) in topics.zip(self.ask(&pipe).await?) {
                if let Value::ServerError(error) = answer {
                    return Err(error.into());
                }
                let (now, mut members) = membership::read(answer).ok_or_else(|| misunderstood("announcing"))?;
                members.sort_unstable_by(|one, other| one.id.cmp(&other.id));
                self.check_clock(now);
                boards.push(Board { partitions: self.of_group[topic].topic.partitions(), members });
            }
        }
        Ok(boards)
    }

    /// Asks the executor to let go of these.
    fn let_go_of(&self, partitions: &[(usize, u32)]) {
        for &(topic, partition) in partitions {
            let held = self.shared.state.lock().of_topic(&self.of_group[topic].topic.name);
            let Some(assignment) = held.into_iter().find(|held| held.partition == partition) else { continue };
            assignment.revoke();
            self.shared.tell(Event::Revoked(assignment));
            self.shared.reader.notify_one();
        }
    }

    async fn take(&mut self, partitions: &[(usize, u32)]) -> RedisResult<()> {
        let now = Instant::now();
        let mut had = 0;
        for topic in 0..self.of_group.len() {
            self.of_group[topic].avoided.retain(|(_, until)| *until > now);
            let of_group = &self.of_group[topic];
            let of_topic = partitions.iter().filter(|(of, _)| *of == topic).map(|(_, partition)| *partition);
            let held = self.shared.state.lock().of_topic(&of_group.topic.name);
            let free = of_topic.filter(|partition| {
                !held.iter().any(|held| held.partition == *partition)
                    && !of_group.avoided.iter().any(|(avoided, _)| avoided == partition)
                    && self.shared.is_quiet(&of_group.topic.streams[*partition as usize])
            });
            let free: Vec<u32> = free.collect();
            for partitions in free.chunks(CHUNK) {
                had += self.acquire(topic, partitions).await?;
            }
        }
        if had > 0 {
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
