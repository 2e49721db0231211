//! Leases: taking, renewing, losing and letting go.

use std::{sync::Arc, time::Duration};

use messaging::{Position, Tick};
use redis::{Pipeline, RedisResult, Value, from_redis_value};
use tokio::time::Instant;

use super::{CHUNK, Keeper, misunderstood};
use crate::{
    assignment::{Assignment, Stage},
    entry,
    keys::lease_key,
    ledger::{Ledger, Standing},
    link::ClientId,
    scripts,
    shared::{Event, State},
    topics::Topic,
};

/// How long a partition that the executor gave up is left to others.
const AVOID: Duration = Duration::from_secs(5);

/// What a script answers about a partition whose connections before were ended.
struct Opened {
    /// The group had to be made anew there.
    healed: Option<Position>,
    /// An entry that was read, and how many had been accounted for up to it.
    known: Option<(Position, u64)>,
    standing: Standing,
}

impl Keeper {
    /// Ends connections that are lost to us but may live at the server, with a read or a settlement still to come.
    pub(super) async fn end_undead(&mut self) -> RedisResult<()> {
        let undead = self.shared.state.lock().undead.clone();
        self.kill(&undead).await?;
        self.shared.state.lock().undead.retain(|client| !undead.contains(client));
        Ok(())
    }

    /// Ends connections of this run of the server; those of an earlier run have ended with it.
    async fn kill(&mut self, clients: &[ClientId]) -> RedisResult<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let (own, reader) = (link.client.clone(), self.shared.state.lock().reader.clone());
        let mut pipe = Pipeline::new();
        let live = |client: &&ClientId| client.run == own.run && **client != own && Some(*client) != reader.as_ref();
        for client in clients.iter().filter(live) {
            pipe.cmd("CLIENT").arg("KILL").arg("ID").arg(client.number);
        }
        for answer in self.ask(&pipe).await? {
            if let Value::ServerError(error) = answer {
                return Err(error.into());
            }
        }
        Ok(())
    }

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
            for assignment in chunk {
                let cmd = pipe.add_command(scripts::RENEW.call(&[&assignment.lease, &*assignment.stream]));
                cmd.arg(&self.shared.id).arg(assignment.epoch).arg(self.shared.group.as_str());
                cmd.arg(self.lease_micros()).arg(&clients);
                write_position(cmd, assignment);
            }
            let sent_at = self.now();
            let answers = self.ask(&pipe).await?;
            for (assignment, answer) in chunk.iter().zip(answers) {
                self.renewed(assignment, answer, self.valid_until(sent_at)).await?;
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

    /// The stream or the group is gone: makes it where it was.
    async fn reopen(&mut self, assignment: &Arc<Assignment>) -> RedisResult<()> {
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
        let Opened { healed, known, standing } = opened;
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
        let may_take_lapsed = Instant::now() >= self.respite_until;
        let mut pipe = Pipeline::with_capacity(partitions.len());
        for &partition in partitions {
            let lease = lease_key(&found.streams[partition as usize], &self.shared.group);
            let cmd = pipe.add_command(scripts::ACQUIRE.call(&[&lease]));
            cmd.arg(&self.shared.id).arg(&clients).arg(self.lease_micros()).arg(u8::from(may_take_lapsed));
        }
        let sent_at = self.now();
        let mut granted = Vec::new();
        let mut before = Vec::new();
        for (&partition, answer) in partitions.iter().zip(self.ask(&pipe).await?) {
            let Value::Array(parts) = answer else {
                return Err(answer_error(answer, "taking a lease"));
            };
            if let [Value::Int(1), epoch, clients] = parts.as_slice() {
                granted.push((partition, from_redis_value::<u64>(epoch.clone())?));
                before.extend(read_clients(&from_redis_value::<String>(clients.clone())?));
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
            // Told before the ledger may report what is missing.
            let ledger = Ledger::new(opened.standing.delivered, None);
            let assignment = Arc::new(Assignment::new(found.clone(), partition, &self.shared.group, epoch, ledger));
            self.shared.tell(Event::Assigned(assignment.clone(), self.valid_until(sent_at)));
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
                let cmd = pipe.add_command(scripts::RELEASE.call(&[&assignment.lease]));
                cmd.arg(&self.shared.id).arg(assignment.epoch);
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

    fn lease_micros(&self) -> u64 {
        self.shared.config.lease.as_micros() as u64
    }

    fn valid_until(&self, sent_at: Tick) -> Tick {
        let config = &self.shared.config;
        sent_at + (config.lease - config.margin())
    }

    /// What stands in the leases: the server's run, the reader's number and the keeper's.
    fn clients(&self, reader: Option<&ClientId>) -> String {
        let Some(link) = &self.link else { return String::new() };
        let reader = reader.filter(|reader| reader.run == link.client.run).map_or(0, |reader| reader.number);
        format!("{}:{reader}:{}", link.client.run, link.client.number)
    }
}

impl State {
    /// The partitions of a topic that are owned.
    pub(super) fn of_topic(&self, name: &str) -> Vec<Arc<Assignment>> {
        self.owned.iter().filter(|assignment| assignment.topic.name == *name).cloned().collect()
    }
}

fn read_clients(text: &str) -> Vec<ClientId> {
    let mut clients = Vec::new();
    for pair in text.split_whitespace() {
        let mut parts = pair.split(':');
        let Some(run) = parts.next() else { continue };
        let numbers = parts.filter_map(|number| number.parse().ok()).filter(|number| *number != 0);
        clients.extend(numbers.map(|number| ClientId { run: run.into(), number }));
    }
    clients
}

fn read_opened(answer: Value) -> RedisResult<Option<Opened>> {
    let parts = match answer {
        Value::Nil => return Ok(None),
        Value::Array(parts) => parts,
        answer => return Err(answer_error(answer, "opening a partition")),
    };
    let [healed, last, count, standing @ ..] = parts.as_slice() else {
        return Err(misunderstood("opening a partition"));
    };
    let count: String = from_redis_value(count.clone())?;
    Ok(Some(Opened {
        healed: entry::position(healed),
        known: entry::position(last).zip(count.parse().ok()),
        standing: read_standing(standing).ok_or_else(|| misunderstood("opening a partition"))?,
    }))
}

fn read_standing(parts: &[Value]) -> Option<Standing> {
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

fn answer_error(answer: Value, what: &'static str) -> redis::RedisError {
    match answer {
        Value::ServerError(error) => error.into(),
        _ => misunderstood(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_in_a_lease_read_as_they_were_written() {
        let client = |run: &str, number| ClientId { run: run.into(), number };
        assert_eq!(read_clients(" a:0:4 b:5:6"), [client("a", 4), client("b", 5), client("b", 6)]);
        assert_eq!(read_clients(""), []);
    }
}
