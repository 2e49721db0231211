//! Noticing partitions that the client has stopped reading without a word, and asking it again.
//!
//! librdkafka may lose a request to read on that meets something it does itself at that moment (its issue 5591 tells of
//! one such way), and says nothing; the partition would stand still until the group rebalances.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer};

use super::{
    context::Place,
    pump::Pump,
    resolve::{ends, list_of},
    tenure::Tenure,
};

/// How often it is looked at, and how long a question or a request about it may take.
const INTERVAL: Duration = Duration::from_secs(5);
const QUESTION: Duration = Duration::from_secs(1);
/// A slow link delivers nothing for long, and would have to begin anew each time it is asked: so it is asked ever less often.
const MOST: Duration = Duration::from_secs(320);

/// When partitions were looked at last.
pub(super) struct Watch {
    looked: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        Self { looked: Instant::now() }
    }
}

/// Since when nothing has come of a partition whose log goes on.
#[derive(Debug)]
pub(super) struct Standstill {
    next: u64,
    since: Instant,
    patience: Duration,
}

impl Tenure {
    /// Takes note of where the log ends. Answers whether the client is to be asked again.
    fn stands_still(&mut self, end: u64, now: Instant) -> bool {
        let next = self.progress.next();
        match &mut self.standstill {
            _ if end <= next => self.standstill = None,
            Some(standstill) if standstill.next == next => {
                let asks = now.duration_since(standstill.since) >= standstill.patience;
                if asks {
                    standstill.since = now;
                    standstill.patience = (standstill.patience * 2).min(MOST);
                }
                return asks;
            }
            none => *none = Some(Standstill { next, since: now, patience: INTERVAL }),
        }
        false
    }
}

impl Pump {
    /// Looks for partitions that stand still, and lets the client read on.
    pub(super) fn watch(&mut self) {
        if self.watch.looked.elapsed() < INTERVAL || self.is_stopping() || self.revoking.is_some() {
            return;
        }
        self.watch.looked = Instant::now();
        let read = self.tenures.iter().filter(|tenure| tenure.is_held() && !tenure.paused);
        let places: Vec<Place> = read.map(|tenure| (tenure.topic.to_string(), tenure.partition)).collect();
        let Ok(ends) = ends(&self.consumer, &places, Offset::End, QUESTION) else { return };
        let now = Instant::now();
        let mut again = TopicPartitionList::new();
        let mut still = Vec::new();
        for place in places {
            let (Some(end), Some(tenure)) = (ends.get(&place), self.tenures.find_mut(&place.0, place.1)) else {
                continue;
            };
            let next = tenure.progress.next();
            // An offset of Kafka is an `i64`.
            if tenure.stands_still(*end, now)
                && again.add_partition_offset(&place.0, place.1, Offset::Offset(next.cast_signed())).is_ok()
            {
                tracing::info!(topic = %tenure.topic, partition = tenure.partition, next, end, "nothing comes of a partition: asking again");
                still.push(place);
            }
        }
        if still.is_empty() {
            return;
        }
        self.switch(&list_of(&still), false);
        // What was not done now is asked again.
        match self.consumer.seek_partitions(again, QUESTION) {
            Ok(results) => {
                for place in results.elements() {
                    if let Err(error) = place.error() {
                        let (topic, partition) = (place.topic(), place.partition());
                        tracing::debug!(topic, partition, %error, "the client does not read on in a partition");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the client was not told to read on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_asked_ever_less_often_while_nothing_comes_and_anew_once_something_has() {
        let (mut tenure, start) = (Tenure::new(0, "t".into(), 0), Instant::now());
        let mut asked = Vec::new();
        for second in (0..100).step_by(5) {
            if tenure.stands_still(9, start + Duration::from_secs(second)) {
                asked.push(second);
            }
        }
        assert_eq!(asked, [5, 15, 35, 75]);
        assert!(tenure.progress.deliver(0));
        let later = start + Duration::from_secs(100);
        assert!(!tenure.stands_still(9, later));
        assert!(tenure.stands_still(9, later + INTERVAL));
        assert!(!tenure.stands_still(1, later + INTERVAL * 9), "the log ends here");
        assert!(tenure.standstill.is_none());
    }
}
