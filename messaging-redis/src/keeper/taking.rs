//! Taking partitions: the lease first, then an end to whoever had it, then the books.

use std::{sync::Arc, time::Duration};

use messaging::Position;
use redis::{Pipeline, RedisError, RedisResult, Value, from_redis_value};
use tokio::time::Instant;

use super::{Keeper, SOON, clients::read_clients, leases::read_standing, misunderstood};
use crate::{
    assignment::{Assignment, Stage},
    entry,
    keys::lease_key,
    ledger::{Ledger, Standing},
    scripts,
    shared::Event,
    topics::Topic,
};

/// What a script answers about a partition whose connections before were ended.
struct Opened {
    /// The group had to be made anew there.
    healed: Option<Position>,
    /// An entry that was read, and how many had been accounted for up to it.
    known: Option<(Position, u64)>,
    standing: Standing,
    /// About how many bytes its entries have.
    weight: usize,
}

impl Keeper {
    /// The stream or the group is gone: makes it where it was.
    pub(super) async fn reopen(&mut self, assignment: &Arc<Assignment>) -> RedisResult<()> {
        let mut pipe = Pipeline::new();
        let (last, _) = assignment.position();
        self.open_command(&mut pipe, &assignment.lease, &assignment.stream, assignment.epoch, last);
        let Some(opened) = read_opened(self.ask(&pipe).await?.pop().unwrap_or_default())? else {
            self.lose(assignment, "its lease is another's");
            return Ok(());
        };
        let ledger = self.ledger(&assignment.topic, assignment.partition, &opened).await?;
        let mut cursor = assignment.cursor.lock();
        cursor.ledger = ledger;
        if cursor.stage == Stage::Live {
            cursor.reclaim();
        }
        Ok(())
    }

    /// The ledger of a partition that was opened; what is known to be lost without a number is reported.
    async fn ledger(&mut self, topic: &Topic, partition: u32, opened: &Opened) -> RedisResult<Ledger> {
        let Opened { healed, known, standing, .. } = opened;
        let delivered = standing.delivered;
        let trimmed = standing.added.saturating_sub(standing.length);
        let accounted = match *known {
            Some((last, count)) if last == delivered => Some(count),
            // The owner before had read on since it said so last.
            Some((last, count)) if last < delivered && trimmed <= count => {
                self.count_between(&topic.streams[partition as usize], last, delivered).await?.map(|read| count + read)
            }
            _ => None,
        };
        let unread_are_gone = standing.delivered < standing.newest
            && (standing.length == 0 || entry::after(standing.delivered) < standing.first);
        if let Some(at) = healed {
            tracing::error!(
                group = %self.shared.group, stream = %topic.streams[partition as usize], %at,
                "the stream or its group was gone: made anew where the group had been"
            );
        }
        if healed.is_some() || (accounted.is_none() && known.is_some() && unread_are_gone) {
            let first = entry::after(healed.unwrap_or(delivered));
            self.shared.tell(Event::Trimmed { topic: topic.name.clone(), partition, first, count: None });
        }
        let mut ledger = Ledger::new(delivered, accounted);
        ledger.look(*standing);
        Ok(ledger)
    }

    /// How many entries there are after one and up to another; `None` if they are too many to be counted.
    async fn count_between(&mut self, stream: &str, after: Position, to: Position) -> RedisResult<Option<u64>> {
        const PAGE: u64 = 1_000;
        const PAGES: u64 = 20;
        let (mut from, mut count) = (entry::after(after), 0);
        for _ in 0..PAGES {
            let mut pipe = Pipeline::new();
            pipe.cmd("XRANGE").arg(stream).arg(entry::id(from)).arg(entry::id(to)).arg("COUNT").arg(PAGE);
            let entries: Vec<Value> = from_redis_value(self.ask(&pipe).await?.pop().unwrap_or_default())?;
            count += entries.len() as u64;
            match entries.last() {
                Some(Value::Array(parts)) if entries.len() as u64 == PAGE => {
                    let last = parts.first().and_then(entry::position);
                    from = entry::after(last.ok_or_else(|| misunderstood("counting entries"))?);
                }
                _ => return Ok(Some(count)),
            }
        }
        Ok(None)
    }

    /// Tries to take these partitions of a topic; answers how many were had.
    pub(super) async fn acquire(&mut self, topic: usize, partitions: &[u32]) -> RedisResult<usize> {
        let found = self.of_group[topic].topic.clone();
        let reader = self.shared.state.lock().reader.clone();
        let clients = self.clients(reader.as_ref());
        let term = self.shared.config.term(Duration::ZERO);
        let may_take_lapsed = Instant::now() >= self.respite_until;
        let mut pipe = Pipeline::with_capacity(partitions.len());
        for &partition in partitions {
            let lease = lease_key(&found.streams[partition as usize], &self.shared.group);
            let cmd = pipe.add_command(scripts::ACQUIRE.call(&[&lease]));
            cmd.arg(&self.shared.id).arg(&clients).arg(term.as_micros() as u64).arg(u8::from(may_take_lapsed));
        }
        let sent_at = self.now();
        let mut granted = Vec::new();
        let mut before = Vec::new();
        for (&partition, answer) in partitions.iter().zip(self.ask(&pipe).await?) {
            let Value::Array(parts) = answer else {
                return Err(answer_error(answer, "taking a lease"));
            };
            match parts.as_slice() {
                [Value::Int(1), epoch, clients] => {
                    granted.push((partition, from_redis_value::<u64>(epoch.clone())?));
                    before.extend(read_clients(&from_redis_value::<String>(clients.clone())?));
                }
                [Value::Int(0), left] if may_take_lapsed => {
                    // It may be a dead owner's: taken as soon as it lapses.
                    let left = Duration::from_micros(from_redis_value(left.clone())?);
                    self.share_at = self.share_at.min(Instant::now() + left + SOON);
                }
                _ => {}
            }
        }
        // Before anything is claimed: a read of theirs that waits would take what comes next.
        self.kill(&before).await?;
        let mut pipe = Pipeline::with_capacity(granted.len());
        for &(partition, epoch) in &granted {
            let stream = &found.streams[partition as usize];
            let remembered = self.of_group[topic].remembered[partition as usize];
            self.open_command(&mut pipe, &lease_key(stream, &self.shared.group), stream, epoch, remembered);
        }
        let mut had = 0;
        for (&(partition, epoch), answer) in granted.iter().zip(self.ask(&pipe).await?) {
            let Some(opened) = read_opened(answer)? else { continue };
            self.shared.note_weight(opened.weight);
            // Told before the ledger may report what is missing.
            let ledger = Ledger::new(opened.standing.delivered, None);
            let run = self.link.as_ref().map_or_else(|| Arc::from(""), |link| link.client.run.clone());
            let group = &self.shared.group;
            let taken = (epoch, sent_at);
            let assignment = Arc::new(Assignment::new(found.clone(), partition, group, taken, run, ledger));
            self.shared.tell(Event::Assigned(assignment.clone(), self.valid_until(sent_at, term)));
            let ledger = self.ledger(&found, partition, &opened).await;
            self.shared.state.lock().owned.push(assignment.clone());
            assignment.cursor.lock().ledger = ledger?;
            had += 1;
        }
        Ok(had)
    }

    fn open_command(&self, pipe: &mut Pipeline, lease: &str, stream: &str, epoch: u64, remembered: Position) {
        let known = if remembered == Position::default() { String::new() } else { entry::id(remembered) };
        let cmd = pipe.add_command(scripts::OPEN.call(&[lease, stream]));
        // Where the group starts was settled when it was joined; one that is gone altogether misses nothing from here.
        cmd.arg(&self.shared.id).arg(epoch).arg(self.shared.group.as_str()).arg("0-0").arg(known);
    }
}

fn read_opened(answer: Value) -> RedisResult<Option<Opened>> {
    let parts = match answer {
        Value::Nil => return Ok(None),
        Value::Array(parts) => parts,
        answer => return Err(answer_error(answer, "opening a partition")),
    };
    let [healed, last, count, standing @ .., Value::Int(weight)] = parts.as_slice() else {
        return Err(misunderstood("opening a partition"));
    };
    let count: String = from_redis_value(count.clone())?;
    Ok(Some(Opened {
        healed: entry::position(healed),
        known: entry::position(last).zip(count.parse().ok()),
        weight: usize::try_from(*weight).unwrap_or(0),
        standing: read_standing(standing).ok_or_else(|| misunderstood("opening a partition"))?,
    }))
}

fn answer_error(answer: Value, what: &'static str) -> RedisError {
    match answer {
        Value::ServerError(error) => error.into(),
        _ => misunderstood(what),
    }
}
