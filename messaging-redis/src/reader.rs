//! [`Reader`]: fetches new entries of every owned partition with one blocking read on a connection of its own.
//!
//! A read that waits goes on waiting *at the server* whatever becomes of us, and takes entries as they come. So it waits
//! for a second at most, whoever takes over ends this connection before claiming what was delivered to it, and after any
//! error what was delivered and did not arrive is claimed before anything new is read.

use std::{sync::Arc, time::Duration};

use messaging::{Error, Message, Position};
use redis::{Cmd, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use crate::{
    assignment::Assignment,
    entry::{self, Fields},
    link::{Backoff, ClientId, Connector, Link, is_broken},
    shared::{CONSUMER, Event, Shared},
};

/// How long a read waits at the server.
const BLOCK: Duration = Duration::from_secs(1);
/// Servers were seen to wait longer than asked.
const OVERRUN: Duration = Duration::from_secs(4);
/// How long partitions that are full may hold up the others, in the hope that they will not be for long.
const PATIENCE: Duration = Duration::from_millis(2);
/// An interruption that came before the read began to wait has no effect: it is said again.
const SAY_AGAIN: Duration = Duration::from_millis(20);

/// How many entries of each stream to ask for at most after the first read; doubles with each.
const FIRST_LIMIT: usize = 64;

pub(crate) struct Reader {
    shared: Arc<Shared>,
    connector: Arc<Connector>,
    link: Option<Link>,
    sizes: Sizes,
    scratch: Fields,
}

impl Reader {
    pub(crate) async fn open(shared: Arc<Shared>, connector: Arc<Connector>) -> Result<Self, Error> {
        let sizes = Sizes::new(connector.config.fetch, connector.config.fetch_bytes);
        let link = Some(connector.connect(BLOCK + OVERRUN).await?);
        Ok(Self { shared, connector, link, sizes, scratch: Fields::default() })
    }

    /// Reads until the task is ended.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let link = match self.link.take() {
                Some(link) => link,
                None => match self.connector.connect(BLOCK + OVERRUN).await {
                    Ok(link) => link,
                    Err(error) => {
                        tracing::warn!(group = %self.shared.group, %error, "the reader cannot connect");
                        tokio::time::sleep(backoff.next()).await;
                        continue;
                    }
                },
            };
            let client = link.client.clone();
            self.shared.reader_up(client.clone());
            let error = self.read_all(link.conn, &client, &mut backoff).await;
            self.shared.reader_down();
            tracing::warn!(group = %self.shared.group, %error, "reading was interrupted");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Reads for as long as the connection is good.
    async fn read_all(
        &mut self,
        mut conn: MultiplexedConnection,
        client: &ClientId,
        backoff: &mut Backoff,
    ) -> RedisError {
        let shared = self.shared.clone();
        loop {
            let interrupted = shared.reader.notified();
            tokio::pin!(interrupted);
            // What was said before is seen by the look that follows; only what is said from here on counts.
            if interrupted.as_mut().enable() {
                interrupted.set(shared.reader.notified());
                interrupted.as_mut().enable();
            }
            let (mut assignments, mut full) = shared.begin_read();
            if full && tokio::time::timeout(PATIENCE, interrupted.as_mut()).await.is_ok() {
                interrupted.set(shared.reader.notified());
                interrupted.as_mut().enable();
                (assignments, full) = shared.begin_read();
            }
            if assignments.is_empty() {
                interrupted.await;
                continue;
            }
            let cmd = self.command(&assignments);
            let answer = {
                let reading = conn.send_packed_command(&cmd);
                tokio::pin!(reading);
                let mut said = false;
                loop {
                    tokio::select! {
                        answer = &mut reading => break answer,
                        () = interrupted.as_mut(), if !said => said = true,
                        () = tokio::time::sleep(SAY_AGAIN), if said => {}
                    }
                    shared.unblock(client).await;
                }
            };
            tracing::trace!(streams = assignments.len(), full, "read");
            let taken = answer.and_then(|answer| self.take(&assignments, answer));
            shared.end_read();
            match taken {
                Ok(()) => backoff.reset(),
                Err(error) if is_broken(&error) => return error,
                Err(error) => {
                    // A stream or group is gone, or the server is not willing: the keeper looks after it.
                    tracing::warn!(group = %shared.group, %error, "reading was refused");
                    shared.refused_read(&assignments);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    fn command(&self, assignments: &[Arc<Assignment>]) -> Cmd {
        let mut cmd = Cmd::with_capacity(8 + 2 * assignments.len(), 256 + 64 * assignments.len());
        cmd.arg("XREADGROUP").arg("GROUP").arg(self.shared.group.as_str()).arg(CONSUMER);
        let count = self.sizes.count().unwrap_or_else(|| self.shared.first_count(assignments.len()));
        cmd.arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
        for assignment in assignments {
            cmd.arg(&*assignment.stream);
        }
        for _ in assignments {
            cmd.arg(">");
        }
        cmd
    }

    /// Hands over what was read: `[[stream, entries], …]` in the order in which the streams were named.
    fn take(&mut self, assignments: &[Arc<Assignment>], answer: Value) -> RedisResult<()> {
        let streams = match answer {
            Value::Nil => return Ok(()),
            Value::Array(streams) => streams,
            Value::ServerError(error) => return Err(error.into()),
            _ => return Err(misunderstood()),
        };
        let mut named = assignments.iter();
        self.sizes.begin();
        for stream in streams {
            let Value::Array(parts) = stream else { return Err(misunderstood()) };
            let mut parts = parts.into_iter();
            let (Some(Value::BulkString(key)), Some(Value::Array(entries))) = (parts.next(), parts.next()) else {
                return Err(misunderstood());
            };
            let Some(assignment) = named.find(|assignment| assignment.stream.as_bytes() == key) else {
                return Err(misunderstood());
            };
            let mut read = assignment.buffer();
            read.reserve(entries.len());
            let mut bytes = 0;
            for value in entries {
                if let Some((position, message)) = entry::read_entry(&assignment.topic.name, value, &mut self.scratch) {
                    bytes += message.weight();
                    read.push((position, message));
                }
            }
            self.sizes.note(read.len(), bytes);
            self.shared.hand_over(assignment, read);
        }
        self.sizes.end();
        Ok(())
    }
}

fn misunderstood() -> RedisError {
    (redis::ErrorKind::Parse, "the answer to XREADGROUP is not understood").into()
}

impl Shared {
    /// Hands new entries to the executor, unless reading that partition has ended meanwhile: then they are claimed by
    /// whoever owns it.
    pub(crate) fn hand_over(&self, assignment: &Arc<Assignment>, entries: Vec<(Position, Arc<Message>)>) {
        if entries.is_empty() {
            return;
        }
        let mut cursor = assignment.cursor.lock();
        if cursor.stage != crate::assignment::Stage::Live {
            return;
        }
        if !cursor.advance(&entries) {
            drop(cursor);
            assignment.regress();
            self.keeper.notify_one();
            return;
        }
        let is_long = cursor.ledger.is_long();
        assignment.handed_over(entries.len());
        self.tell(Event::Entries(assignment.clone(), entries));
        drop(cursor);
        if is_long {
            self.keeper.notify_one();
        }
    }

    /// A read was refused: what it included is to be looked after, and then claimed.
    fn refused_read(&self, assignments: &[Arc<Assignment>]) {
        assignments.iter().for_each(|assignment| assignment.cursor.lock().reclaim());
        self.state.lock().look_now = true;
        self.keeper.notify_one();
    }
}

/// How many entries to ask for: what the last reads suggest for the configured number and bytes of a fetch.
struct Sizes {
    fetch: usize,
    fetch_bytes: usize,
    /// The most to ask for yet; grows as the entries turn out to be small.
    limit: usize,
    /// Of each stream.
    count: Option<usize>,
    /// About how many bytes an entry has.
    weight: usize,
    streams: usize,
    entries: usize,
    bytes: usize,
}

impl Sizes {
    fn new(fetch: usize, fetch_bytes: usize) -> Self {
        Self {
            fetch,
            fetch_bytes,
            limit: FIRST_LIMIT.min(fetch),
            count: None,
            weight: 0,
            streams: 0,
            entries: 0,
            bytes: 0,
        }
    }

    /// `None` before anything was read.
    fn count(&self) -> Option<usize> {
        self.count
    }

    fn begin(&mut self) {
        (self.streams, self.entries, self.bytes) = (0, 0, 0);
    }

    fn note(&mut self, entries: usize, bytes: usize) {
        self.streams += 1;
        self.entries += entries;
        self.bytes += bytes;
    }

    /// A read has ended: the next asks each stream for its part, as if as many had something again.
    fn end(&mut self) {
        if self.entries == 0 {
            return;
        }
        self.weight = (self.weight + self.bytes / self.entries).div_ceil(2).max(1);
        self.limit = (self.limit * 2).min(self.fetch);
        let by_bytes = self.fetch_bytes / (self.weight * self.streams);
        self.count = Some((self.fetch / self.streams).min(by_bytes).min(self.limit).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(reads: &[(usize, usize, usize)]) -> usize {
        let mut sizes = Sizes::new(1_000, 1 << 20);
        for (streams, entries, bytes) in reads {
            sizes.begin();
            (0..*streams).for_each(|_| sizes.note(entries / streams, bytes / streams));
            sizes.end();
        }
        sizes.count().unwrap()
    }

    #[test]
    fn begins_small_and_grows_to_the_fetch_over_the_streams_that_have_something() {
        assert_eq!(Sizes::new(1_000, 1 << 20).count(), None);
        assert_eq!(after(&[(1, 16, 1_600)]), 128);
        assert_eq!(after(&[(1, 100, 10_000); 8]), 1_000);
        assert_eq!(after(&[(10, 1_000, 100_000); 8]), 100);
    }

    #[test]
    fn large_entries_are_fetched_in_small_numbers() {
        assert_eq!(after(&[(1, 10, 10 << 20); 8]), 1);
        assert_eq!(after(&[(2, 100, 400 << 10); 8]), 128);
    }
}
