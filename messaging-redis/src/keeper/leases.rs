//! Renewing leases, losing them, and letting go.

use std::{sync::Arc, time::Duration};

use messaging::Tick;
use redis::{Pipeline, RedisResult, Value, from_redis_value};
use tokio::time::Instant;

use super::{CHUNK, Keeper, misunderstood};
use crate::{
    assignment::Assignment,
    entry,
    ledger::Standing,
    scripts,
    shared::{Event, State},
};

/// How long a partition that the executor gave up is left to others.
const AVOID: Duration = Duration::from_secs(5);

impl Keeper {
    pub(super) fn must_renew(&self) -> bool {
        let state = self.shared.state.lock();
        Instant::now() >= self.renew_at || state.look_now || (state.reader.is_some() && !state.reader_registered)
    }

    /// Renews every lease with the connections that are ours now, and looks at how the streams stand.
    pub(super) async fn renew(&mut self) -> RedisResult<()> {
        let (owned, reader) = {
            let mut state = self.shared.state.lock();
            state.look_now = false;
            (state.owned.clone(), state.reader.clone())
        };
        let clients = self.clients(reader.as_ref());
        for chunk in owned.chunks(CHUNK) {
            let mut pipe = Pipeline::with_capacity(chunk.len());
            let sent_at = self.now();
            for assignment in chunk {
                let cmd = pipe.add_command(scripts::RENEW.call(&[&assignment.lease, &*assignment.stream]));
                cmd.arg(&self.shared.id).arg(assignment.epoch).arg(self.shared.group.as_str());
                cmd.arg(self.term(assignment, sent_at).as_micros() as u64).arg(&clients);
                write_position(cmd, assignment);
            }
            let answers = self.ask(&pipe).await?;
            for (assignment, answer) in chunk.iter().zip(answers) {
                let valid_until = self.valid_until(sent_at, self.term(assignment, sent_at));
                self.renewed(assignment, answer, valid_until).await?;
            }
        }
        self.renew_at = Instant::now() + self.shared.config.renewal();
        let mut state = self.shared.state.lock();
        if reader.is_some() && state.reader == reader && !state.reader_registered {
            state.reader_registered = true;
            drop(state);
            self.shared.reader.notify_one();
        }
        Ok(())
    }

    async fn renewed(&mut self, assignment: &Arc<Assignment>, answer: Value, valid_until: Tick) -> RedisResult<()> {
        let standing = match answer {
            Value::Nil => {
                self.lose(assignment, "its lease is another's, or gone");
                return Ok(());
            }
            Value::Array(parts) if parts.is_empty() => None,
            Value::Array(parts) => Some(read_standing(&parts).ok_or_else(|| misunderstood("renewing a lease"))?),
            Value::ServerError(error) => return Err(error.into()),
            _ => return Err(misunderstood("renewing a lease")),
        };
        self.shared.tell(Event::Renewed(assignment.clone(), valid_until));
        match standing {
            Some(standing) => assignment.cursor.lock().ledger.look(standing),
            None => self.reopen(assignment).await?,
        }
        Ok(())
    }

    /// The partition is somebody else's, or may be.
    pub(super) fn lose(&mut self, assignment: &Arc<Assignment>, why: &str) {
        tracing::warn!(group = %self.shared.group, stream = %assignment.stream, epoch = assignment.epoch, why, "lost");
        assignment.stop();
        self.forget(assignment);
        self.shared.tell(Event::Lost(assignment.clone()));
        self.shared.reader.notify_one();
    }

    /// Lets go of what the executor has let go, once nothing of ours reads it any more.
    pub(super) async fn let_go(&mut self) -> RedisResult<()> {
        let owned = self.shared.state.lock().owned.clone();
        for assignment in owned.iter().filter(|assignment| assignment.has_regressed()) {
            self.lose(assignment, "the server has forgotten what it had confirmed");
        }
        let mut quiet = Vec::new();
        let closing = self.closing();
        for assignment in owned {
            if !(assignment.is_released() || closing) || assignment.has_regressed() {
                continue;
            }
            assignment.stop();
            if self.shared.is_quiet(&assignment.stream) && assignment.is_settled_up() {
                quiet.push(assignment);
            } else {
                self.soon = true;
                self.shared.reader.notify_one();
            }
        }
        for chunk in quiet.chunks(CHUNK) {
            let mut pipe = Pipeline::with_capacity(chunk.len());
            for assignment in chunk {
                let cmd = pipe.add_command(scripts::RELEASE.call(&[&assignment.lease, &*assignment.stream]));
                cmd.arg(&self.shared.id).arg(assignment.epoch).arg(self.shared.group.as_str());
                write_position(cmd, assignment);
            }
            for (assignment, answer) in chunk.iter().zip(self.ask(&pipe).await?) {
                if let Value::ServerError(error) = answer {
                    return Err(error.into());
                }
                self.forget(assignment);
                if !assignment.is_revoking() {
                    self.avoid(assignment);
                }
                self.share_at = Instant::now();
            }
        }
        Ok(())
    }

    fn forget(&mut self, assignment: &Arc<Assignment>) {
        self.shared.settled(assignment.take_settled().len());
        self.shared.state.lock().owned.retain(|owned| !Arc::ptr_eq(owned, assignment));
        if let Some(of_group) = self.of_group(assignment) {
            of_group.remembered[assignment.partition as usize] = assignment.position().0;
        }
    }

    fn avoid(&mut self, assignment: &Assignment) {
        let (partition, until) = (assignment.partition, Instant::now() + AVOID);
        if let Some(of_group) = self.of_group(assignment) {
            of_group.avoided.push((partition, until));
        }
    }

    fn of_group(&mut self, assignment: &Assignment) -> Option<&mut super::GroupTopic> {
        self.of_group.iter_mut().find(|of_group| of_group.topic.name == assignment.topic.name)
    }

    fn term(&self, assignment: &Assignment, now: Tick) -> Duration {
        self.shared.config.term(now.since(assignment.taken_at))
    }

    /// Until when handlers may start under a lease that was granted for so long.
    pub(super) fn valid_until(&self, sent_at: Tick, term: Duration) -> Tick {
        sent_at + (term - self.shared.config.margin())
    }
}

impl State {
    /// The partitions of a topic that are owned.
    pub(super) fn of_topic(&self, name: &str) -> Vec<Arc<Assignment>> {
        self.owned.iter().filter(|assignment| assignment.topic.name == *name).cloned().collect()
    }
}

pub(super) fn read_standing(parts: &[Value]) -> Option<Standing> {
    let [added, length, first, newest, delivered] = parts else { return None };
    Some(Standing {
        added: from_redis_value(added.clone()).ok()?,
        length: from_redis_value(length.clone()).ok()?,
        first: entry::position(first)?,
        newest: entry::position(newest)?,
        delivered: entry::position(delivered)?,
    })
}

/// How far a partition was read: the last two arguments of several scripts.
fn write_position(pipe: &mut Pipeline, assignment: &Assignment) {
    let (last, count) = assignment.position();
    pipe.arg(entry::id(last)).arg(count.map(|count| count.to_string()).unwrap_or_default());
}
