//! Claiming what was delivered and not settled, in its order, before anything new of the partition is read.

use std::sync::Arc;

use messaging::Position;
use redis::{Pipeline, RedisResult, Value};

use super::{Keeper, misunderstood};
use crate::{
    assignment::{Assignment, Stage},
    entry::{self, Fields},
    scripts,
    shared::{CONSUMER, Event},
};

/// Partitions at once: each may bring a page of large entries.
const AT_ONCE: usize = 8;

impl Keeper {
    /// Claims a page of each partition that has something to claim and whose executor has taken the page before.
    pub(super) async fn claim(&mut self) -> RedisResult<()> {
        loop {
            let owned = self.shared.state.lock().owned.clone();
            let due = owned.into_iter().filter_map(|assignment| assignment.to_claim().map(|page| (assignment, page)));
            let due: Vec<_> = due.take(AT_ONCE).collect();
            if due.is_empty() || !self.shared.state.lock().undead.is_empty() {
                return Ok(());
            }
            if self.recheck(&due).await? {
                continue;
            }
            let mut pipe = Pipeline::with_capacity(due.len());
            for (assignment, (next, page)) in &due {
                let cmd = pipe.add_command(scripts::CLAIM.call(&[&assignment.lease, &*assignment.stream]));
                cmd.arg(&self.shared.id).arg(assignment.epoch).arg(self.shared.group.as_str());
                cmd.arg(CONSUMER).arg(entry::id(*next)).arg((*page).min(self.shared.first_count(AT_ONCE)));
            }
            for ((assignment, _), answer) in due.iter().zip(self.ask(&pipe).await?) {
                match answer {
                    Value::Nil => self.lose(assignment, "its lease is another's"),
                    Value::Array(parts) => self.claimed(assignment, parts)?,
                    Value::ServerError(error) if error.code() == "NOGROUP" => {
                        self.shared.state.lock().look_now = true;
                        return Ok(());
                    }
                    Value::ServerError(error) => return Err(error.into()),
                    _ => return Err(misunderstood("claiming")),
                }
            }
        }
    }

    /// A server that died may have forgotten the last things it confirmed, settlements among them: then messages wait
    /// there that nobody is going to settle again. Answers whether a partition has to begin anew for that.
    async fn recheck(&mut self, due: &[(Arc<Assignment>, (Position, usize))]) -> RedisResult<bool> {
        let Some(run) = self.link.as_ref().map(|link| link.client.run.clone()) else { return Ok(false) };
        let doubtful: Vec<_> = due.iter().map(|(assignment, _)| assignment).filter(|one| one.doubts(&run)).collect();
        let mut pipe = Pipeline::with_capacity(doubtful.len());
        for assignment in &doubtful {
            let last = assignment.cursor.lock().last;
            let cmd = pipe.cmd("XPENDING").arg(&*assignment.stream).arg(self.shared.group.as_str());
            cmd.arg("-").arg(entry::id(last)).arg(assignment.outstanding() + 1);
        }
        let mut forgotten = false;
        for (assignment, answer) in doubtful.iter().zip(self.ask(&pipe).await?) {
            match answer {
                Value::Array(pending) if pending.len() > assignment.outstanding() => {
                    forgotten = true;
                    self.lose(assignment, "the server has forgotten what was settled");
                }
                // A group that is gone is made anew by the next renewal.
                Value::Array(_) | Value::ServerError(_) => assignment.trust(&run),
                _ => return Err(misunderstood("looking at what is pending")),
            }
        }
        Ok(forgotten)
    }

    /// Hands over a page: `[next id, entries, ids that are gone]`.
    fn claimed(&mut self, assignment: &Arc<Assignment>, parts: Vec<Value>) -> RedisResult<()> {
        let mut parts = parts.into_iter();
        let (Some(next), Some(Value::Array(values)), Some(Value::Array(gone))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(misunderstood("claiming"));
        };
        let next = entry::position(&next).ok_or_else(|| misunderstood("claiming"))?;
        let mut scratch = Fields::default();
        let topic = &assignment.topic.name;
        let read = values.into_iter().filter_map(|value| entry::read_entry(topic, value, &mut scratch));
        let entries: Vec<_> = read.collect();
        let gone: Vec<Position> = gone.iter().filter_map(entry::position).collect();
        let mut cursor = assignment.cursor.lock();
        if !matches!(cursor.stage, Stage::Claiming { .. }) {
            return Ok(());
        }
        if !cursor.advance(&entries) {
            drop(cursor);
            assignment.regress();
            return Ok(());
        }
        gone.iter().for_each(|position| cursor.ledger.read(*position));
        cursor.claimed(Some(next).filter(|next| *next != Position::default()));
        if !entries.is_empty() {
            assignment.handed_over(entries.len());
            self.shared.tell(Event::Entries(assignment.clone(), entries));
        }
        let live = cursor.stage == Stage::Live;
        drop(cursor);
        if let Some(first) = gone.iter().min() {
            let (topic, count) = (assignment.topic.name.clone(), Some(gone.len() as u64));
            self.shared.tell(Event::Trimmed { topic, partition: assignment.partition, first: *first, count });
        }
        if live {
            self.shared.reader.notify_one();
        }
        Ok(())
    }
}
