//! Taking partitions up: read where the group stands, commit a new epoch, begin there, and only then tell the executor.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use messaging::{Error, Start, Tick};
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaResult, types::RDKafkaErrorCode as Code};

use super::{
    context::{Place, places, take_note_of_an_assignment},
    event::{Assigned, Event, Trimmed},
    inbox::TenureId,
    pump::Pump,
    resolve::{Committed, Range, add_commit, committed, list_of, ranges},
    tenure::Phase,
};
use crate::{mark::Mark, progress::Progress};

/// How long one question to the broker may take: meanwhile nothing else happens on the pump.
const QUESTION: Duration = Duration::from_secs(1);
/// How soon it is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Partitions whose first commit is out.
pub(super) struct Adopting {
    sent: Tick,
    begin: Vec<Beginning>,
}

impl Adopting {
    /// A partition is not ours any more, whatever becomes of its first commit.
    pub(super) fn forget(&mut self, slot: u32) {
        self.begin.retain(|beginning| beginning.slot != slot);
    }
}

/// Where one partition begins.
struct Beginning {
    slot: u32,
    place: Place,
    epoch: u64,
    progress: Progress,
    /// What retention took before the group got it, as (first, count).
    gone: Vec<(u64, u64)>,
}

/// What a group that has never been on a topic commits at once: where it begins on each partition.
pub(super) fn first_commit(ranges: &HashMap<Place, Range>, start: Start) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(ranges.len());
    let mark = Mark { epoch: new_epoch(None), runs: Vec::new() }.write(usize::MAX);
    for ((topic, partition), (low, high)) in ranges {
        let offset = match start {
            Start::Default | Start::Earliest => *low,
            Start::Latest => *high,
            // What lies before the log's beginning is reported as lost when the partition is taken up.
            Start::Position(position) => position.major.min(*high),
        };
        add_commit(&mut list, topic, *partition, offset, &mark);
    }
    list
}

/// An epoch above the one before: in steps of one if clocks disagree, and above any that the broker has forgotten.
pub(super) fn new_epoch(before: Option<u64>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    before.map_or(now, |before| now.max(before + 1))
}

impl Pump {
    /// The coordinator has assigned partitions. It has its answer at once; the client is told of each when it is known
    /// where it begins.
    ///
    /// Not paused and positioned later: a pause or its end may be lost if the client does something itself at that
    /// moment (librdkafka issue 5591), and a position that is asked for while the leader is away may never be taken up.
    pub(super) fn expect(&mut self, partitions: &TopicPartitionList) {
        tracing::debug!(count = partitions.count(), "partitions are assigned");
        for (topic, partition) in places(partitions) {
            if let Some(topic) = self.topics.iter().find(|known| known.as_str() == topic).cloned() {
                self.tenures.insert(topic, partition);
            }
        }
        self.answer_assignment();
    }

    /// Answers an assignment of the coordinator.
    pub(super) fn answer_assignment(&self) {
        if let Err(error) = take_note_of_an_assignment(&self.consumer) {
            tracing::warn!(%error, "the client did not take an assignment");
        }
    }

    /// Begins to take up the partitions that are due.
    pub(super) fn adopt(&mut self) {
        if self.is_stopping() {
            return;
        }
        let now = Instant::now();
        let due: Vec<(u32, Place)> = self
            .tenures
            .iter()
            .filter(|tenure| matches!(tenure.phase, Phase::Adopting { at } if at <= now))
            .map(|tenure| (tenure.id.slot, (tenure.topic.to_string(), tenure.partition)))
            .collect();
        // A revocation before this assignment is answered first; its partitions may be among these.
        if due.is_empty() || self.adopting.is_some() || !self.commits.is_idle() || self.revoking.is_some() {
            return;
        }
        match self.beginnings(&due) {
            Ok(begin) if begin.is_empty() => self.put_off(due.iter().map(|(slot, _)| *slot), AGAIN),
            Ok(begin) => {
                let mut list = TopicPartitionList::with_capacity(begin.len());
                for beginning in &begin {
                    let mark = Mark { epoch: beginning.epoch, runs: beginning.progress.finished_runs() };
                    let text = mark.write(self.commits.limit());
                    let (topic, partition) = &beginning.place;
                    add_commit(&mut list, topic, *partition, beginning.progress.watermark(), &text);
                }
                let begun: Vec<u32> = begin.iter().map(|beginning| beginning.slot).collect();
                let others = due.iter().map(|(slot, _)| *slot).filter(|slot| !begun.contains(slot)).collect::<Vec<_>>();
                self.put_off(others.into_iter(), AGAIN);
                self.adopting = Some(Adopting { sent: Tick::default(), begin });
                let sent = self.send_adoption(list);
                if let Some(adopting) = &mut self.adopting {
                    adopting.sent = sent;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "where to begin is not known yet");
                self.put_off(due.iter().map(|(slot, _)| *slot), AGAIN);
            }
        }
    }

    /// The first commit of partitions was answered.
    pub(super) fn adoption_committed(&mut self, failure: Option<Code>) {
        let Some(adopting) = self.adopting.take() else { return };
        let slots = || adopting.begin.iter().map(|beginning| beginning.slot);
        if failure.is_some() {
            return self.put_off(slots(), AGAIN);
        }
        let positioned = match self.position(&adopting.begin) {
            Ok(positioned) => positioned,
            Err(error) => {
                tracing::debug!(%error, "partitions could not be positioned yet");
                return self.put_off(slots(), AGAIN);
            }
        };
        tracing::debug!(count = positioned.len(), "partitions are taken up");
        let valid_until = adopting.sent + self.validity;
        let mut resume = Vec::new();
        for beginning in adopting.begin {
            let (topic, partition) = &beginning.place;
            if !positioned.contains(&beginning.place) {
                self.put_off(std::iter::once(beginning.slot), AGAIN);
                continue;
            }
            let Some(tenure) = self
                .tenures
                .slot_mut(beginning.slot)
                .filter(|tenure| tenure.is(topic, *partition) && matches!(tenure.phase, Phase::Adopting { .. }))
            else {
                continue;
            };
            let number = partition.unsigned_abs();
            for (first, count) in beginning.gone {
                let trimmed = Trimmed { topic: tenure.topic.clone(), partition: number, first, count };
                self.events.push(Event::Trimmed(Box::new(trimmed)));
            }
            tenure.id = TenureId { slot: beginning.slot, epoch: beginning.epoch };
            tenure.flow = std::sync::Arc::default();
            tenure.untold = (0, 0);
            tenure.progress = beginning.progress;
            tenure.phase = Phase::Held;
            tenure.dirty = false;
            if std::mem::take(&mut tenure.paused) {
                resume.push(beginning.place.clone());
            }
            self.events.push(Event::Assigned(Box::new(Assigned {
                id: tenure.id,
                topic: tenure.topic.clone(),
                partition: number,
                valid_until,
                flow: tenure.flow.clone(),
            })));
        }
        if !resume.is_empty() {
            self.switch(&list_of(&resume), false);
        }
    }

    /// Lets the client read from where partitions begin; answers which of them it does.
    fn position(&mut self, begin: &[Beginning]) -> KafkaResult<Vec<Place>> {
        let has = places(&self.consumer.assignment()?);
        let (here, new): (Vec<&Beginning>, Vec<&Beginning>) =
            begin.iter().partition(|beginning| has.contains(&beginning.place));
        let mut positioned = Vec::new();
        if !new.is_empty() {
            // The client keeps a pause from one assignment to the next. Lifted before, not after: a partition that is
            // read already would lose what it has fetched.
            let places: Vec<Place> = new.iter().map(|beginning| beginning.place.clone()).collect();
            self.switch(&list_of(&places), false);
            places.iter().for_each(|(topic, partition)| self.fetched.forward(topic, *partition));
            self.consumer.incremental_assign(&offsets_of(&new)?)?;
            positioned = places;
        }
        positioned.extend(self.seek(&here)?);
        Ok(positioned)
    }

    /// Lets the client go on elsewhere on partitions that it reads; answers on which of them it does.
    fn seek(&self, to: &[&Beginning]) -> KafkaResult<Vec<Place>> {
        if to.is_empty() {
            return Ok(Vec::new());
        }
        let sought = self.consumer.seek_partitions(offsets_of(to)?, QUESTION)?;
        let well = sought.elements().into_iter().filter(|element| element.error().is_ok());
        Ok(well.map(|element| (element.topic().to_owned(), element.partition())).collect())
    }

    /// Where these partitions begin, as far as that can be said now.
    fn beginnings(&self, due: &[(u32, Place)]) -> Result<Vec<Beginning>, Error> {
        let places: Vec<Place> = due.iter().map(|(_, place)| place.clone()).collect();
        let ranges = ranges(&self.consumer, &places, QUESTION)?;
        let mut known = committed(&self.consumer, &places, QUESTION)?;
        for topic in &self.topics {
            let is_unknown = |place: &&Place| place.0 == topic.as_str() && !known.contains_key(*place);
            let unknown: Vec<Place> = places.iter().filter(is_unknown).cloned().collect();
            if !unknown.is_empty() {
                known.extend(self.unknown(topic, &unknown)?);
            }
        }
        let begin = due
            .iter()
            .filter_map(|(slot, place)| Some(beginning(*slot, place.clone(), *ranges.get(place)?, known.get(place)?)));
        Ok(begin.collect())
    }

    /// Where partitions begin on which the group has committed nothing.
    ///
    /// If it has elsewhere in the topic, they were found later, and begin at their oldest message. If it has nowhere, this
    /// is the group's first start: whoever has partition 0 decides for all, so that all agree on "now".
    fn unknown(&self, topic: &str, unknown: &[Place]) -> Result<HashMap<Place, Committed>, Error> {
        let Some(layout) = self.admin.partitions_of(topic)? else { return Ok(HashMap::new()) };
        let all: Vec<Place> =
            (0..layout.partitions.cast_signed()).map(|partition| (topic.to_owned(), partition)).collect();
        // Asked before the commits are read: no other member's start can lie before it, if there is none yet.
        let ends = ranges(&self.consumer, &all, QUESTION)?;
        let elsewhere = committed(&self.consumer, &all, QUESTION)?;
        let begins_at = |offset: u64| Committed { offset, mark: None };
        if !elsewhere.is_empty() {
            return Ok(unknown
                .iter()
                .filter_map(|place| {
                    let now_known = elsewhere.get(place).cloned();
                    Some((place.clone(), now_known.or_else(|| Some(begins_at(ends.get(place)?.0)))?))
                })
                .collect());
        }
        if !unknown.iter().any(|(_, partition)| *partition == 0) {
            return Ok(HashMap::new());
        }
        let list = first_commit(&ends, self.start);
        let commit = self.consumer.commit(&list, rdkafka::consumer::CommitMode::Sync);
        commit.map_err(|error| crate::error::from_kafka("committing where the group begins", error))?;
        committed(&self.consumer, unknown, QUESTION)
    }

    /// Tries to take partitions up again a little later.
    fn put_off(&mut self, slots: impl Iterator<Item = u32>, after: Duration) {
        for slot in slots {
            if let Some(tenure) = self.tenures.slot_mut(slot)
                && let Phase::Adopting { at } = &mut tenure.phase
            {
                *at = Instant::now() + after;
            }
        }
    }

    /// Retention may have taken what was about to be read: goes on at the log's beginning and reports what is gone.
    /// Answers whether that is settled.
    pub(super) fn skip_what_is_gone(&mut self) -> bool {
        let held = self.tenures.iter().filter(|tenure| tenure.is_held());
        let places: Vec<Place> = held.map(|tenure| (tenure.topic.to_string(), tenure.partition)).collect();
        let Ok(ranges) = ranges(&self.consumer, &places, QUESTION) else { return false };
        for place in places {
            let Some((low, high)) = ranges.get(&place).copied() else { continue };
            let Some(tenure) = self.tenures.find_mut(&place.0, place.1) else { continue };
            let next = tenure.progress.next();
            if next > high {
                // The log is another one, or was cut at its end: taken up anew, from what is committed.
                tracing::error!(topic = %tenure.topic, partition = tenure.partition, next, high, "the log ends before what was read");
                self.events.push(Event::Lost(tenure.id));
                tenure.id.epoch = 0;
                tenure.phase = Phase::Adopting { at: Instant::now() };
            } else if next < low {
                let offset = Offset::Offset(low.cast_signed());
                if self.consumer.seek(&place.0, place.1, offset, QUESTION).is_err() {
                    return false;
                }
                for (first, count) in tenure.progress.unfinished(next, low) {
                    let trimmed =
                        Trimmed { topic: tenure.topic.clone(), partition: place.1.unsigned_abs(), first, count };
                    self.events.push(Event::Trimmed(Box::new(trimmed)));
                }
                tenure.progress.pass_over(low);
                tenure.dirty = true;
            }
        }
        true
    }
}

impl Beginning {
    fn offset(&self) -> Offset {
        Offset::Offset(self.progress.watermark().cast_signed())
    }
}

/// What the client is told of where partitions begin. Never a logical offset such as the end: the client asks the broker
/// for it until it gets an answer, also when the partition has been assigned anew meanwhile, and would then skip to it
/// (librdkafka 2.12).
fn offsets_of(begin: &[&Beginning]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(begin.len());
    for beginning in begin {
        list.add_partition_offset(&beginning.place.0, beginning.place.1, beginning.offset())?;
    }
    Ok(list)
}

/// Where one partition begins, from what is committed and what its log still holds.
fn beginning(slot: u32, place: Place, (low, high): Range, committed: &Committed) -> Beginning {
    let epoch = new_epoch(committed.mark.as_ref().map(|mark| mark.epoch));
    let offset = committed.offset;
    if offset > high {
        tracing::error!(
            topic = place.0,
            partition = place.1,
            offset,
            high,
            "the log ends before what was committed: it begins anew"
        );
        return Beginning { slot, place, epoch, progress: Progress::new(low, []), gone: Vec::new() };
    }
    let finished = committed.mark.iter().flat_map(|mark| mark.finished(offset));
    let mut progress = Progress::new(offset, finished);
    let gone = if low > offset { progress.unfinished(offset, low) } else { Vec::new() };
    progress.pass_over(low);
    Beginning { slot, place, epoch, progress, gone }
}
