//! `tail`: the messages of a topic, read without joining any group, the partitions merged by time.

use std::{collections::VecDeque, time::Duration};

use messaging::{Admin, Broker, Delivery, Position, Timestamp};

use crate::{
    cli::{From, Tail},
    failure::Failure,
    output::Output,
    place::{Reading, topic},
    shown::Shown,
};

/// How long to wait before looking for new messages.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) async fn run(broker: &dyn Broker, asked: &Tail, out: &Output) -> Result<(), Failure> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        result = show(broker, asked, out) => result,
        _ = interrupted => Ok(()),
    }
}

async fn show(broker: &dyn Broker, asked: &Tail, out: &Output) -> Result<(), Failure> {
    let admin = broker.admin();
    let count = topic(&*admin, "TOPIC", &asked.topic).await?.partitions;
    let partitions = match asked.partition {
        Some(partition) if partition >= count => {
            let topic = &asked.topic;
            return Err(Failure::usage(format!(
                "--partition: topic {topic:?} has {count} partitions, 0 to {}",
                count - 1
            )));
        }
        Some(partition) => partition..partition + 1,
        None => 0..count,
    };
    let from = asked.from.unwrap_or(if asked.follow { From::Latest } else { From::Earliest });
    let mut tailed = Tailed { admin: &*admin, topic: &asked.topic, lanes: Vec::new() };
    for partition in partitions {
        tailed.open(partition, from).await?;
    }
    let mut left = asked.limit.unwrap_or(usize::MAX);
    while left > 0 {
        match tailed.next().await? {
            Some(delivery) => {
                out.record(&Shown::of(&delivery), |shown| shown.text(asked.headers))?;
                left -= 1;
            }
            None if !asked.follow => break,
            None => {
                tokio::time::sleep(PAUSE).await;
                tailed.look_again().await?;
            }
        }
    }
    Ok(())
}

/// A topic that is read from several partitions at once.
struct Tailed<'a> {
    admin: &'a dyn Admin,
    topic: &'a str,
    lanes: Vec<Lane>,
}

/// One partition of it.
struct Lane {
    reading: Reading,
    read: VecDeque<Delivery>,
    /// Nothing more was there when it was last read.
    at_end: bool,
    /// Where its end was when it was last looked at.
    end: Option<Position>,
}

impl Tailed<'_> {
    async fn open(&mut self, partition: u32, from: From) -> Result<(), Failure> {
        let (start, end) = match from {
            From::Earliest => (Position::default(), None),
            From::Latest => {
                let end = self.admin.end(self.topic, partition).await?;
                (end, Some(end))
            }
        };
        let reading = Reading::new(partition, start);
        self.lanes.push(Lane { reading, read: VecDeque::new(), at_end: end.is_some(), end });
        Ok(())
    }

    /// The next message of the partition whose next message is the oldest: the order within a partition stays.
    async fn next(&mut self) -> Result<Option<Delivery>, Failure> {
        for lane in &mut self.lanes {
            if lane.read.is_empty() && !lane.at_end {
                let (from, limit) = lane.reading.next();
                let page = self.admin.browse(self.topic, lane.reading.partition, from, limit).await?;
                lane.read.extend(lane.reading.take(page));
                lane.at_end = lane.read.is_empty();
            }
        }
        let oldest = self.lanes.iter_mut().filter(|lane| !lane.read.is_empty()).min_by_key(|lane| time(&lane.read));
        Ok(oldest.and_then(|lane| lane.read.pop_front()))
    }

    /// Finds the partitions that have changed.
    async fn look_again(&mut self) -> Result<(), Failure> {
        for lane in &mut self.lanes {
            let end = self.admin.end(self.topic, lane.reading.partition).await?;
            if lane.end.is_some_and(|before| end < before) {
                // Where positions are those of the moment, somebody has settled what was before: go on at the new end.
                lane.reading = Reading::new(lane.reading.partition, end);
            } else if lane.end != Some(end) {
                lane.at_end = false;
            }
            lane.end = Some(end);
        }
        Ok(())
    }
}

fn time(read: &VecDeque<Delivery>) -> Option<Timestamp> {
    read.front()?.message.envelope.as_ref()?.time
}
