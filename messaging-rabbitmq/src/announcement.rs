//! [`Announcement`]: what a member tells the others of its group, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Partitions by topic.
pub(crate) type Places = BTreeMap<String, BTreeSet<u32>>;

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) member: String,
    /// It is new and asks the others to announce themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hello: bool,
    /// No member, only somebody who asks the members to announce themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) asks: bool,
    /// It takes nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) closing: bool,
    /// It is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) left: bool,
    /// Its topics, and how many partitions each has.
    pub(crate) topics: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) holdings: Holdings,
    /// What it leaves to others.
    #[serde(default)]
    pub(crate) declined: Places,
    /// The others that it knows.
    #[serde(default)]
    pub(crate) knows: BTreeSet<String>,
    /// The highest epoch it knows.
    #[serde(default)]
    pub(crate) epoch: u64,
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holdings {
    /// What the broker hands over to it.
    #[serde(default)]
    pub(crate) active: Places,
    /// What it stands in line for, or has had nothing of yet.
    #[serde(default)]
    pub(crate) waiting: Places,
    /// What it is giving up, and still has: nobody else is to get in line for it.
    #[serde(default)]
    pub(crate) releasing: Places,
    /// How many messages it has and has not settled, by topic and partition.
    #[serde(default)]
    pub(crate) unsettled: BTreeMap<String, BTreeMap<u32, u64>>,
}

impl Announcement {
    /// What of it the plan is made of.
    pub(crate) fn essence(mut self) -> Self {
        self.hello = false;
        self.knows.clear();
        self.holdings.unsettled.clear();
        self.epoch = 0;
        self
    }
}

impl Holdings {
    /// Whether somebody else would have to wait for this partition.
    pub(crate) fn keeps(&self, topic: &str, partition: u32) -> bool {
        has(&self.active, topic, partition) || has(&self.releasing, topic, partition)
    }

    /// How many messages of a partition it has and has not settled.
    pub(crate) fn unsettled(&self, topic: &str, partition: u32) -> u64 {
        self.unsettled.get(topic).and_then(|counts| counts.get(&partition)).copied().unwrap_or(0)
    }
}

pub(crate) fn has(places: &Places, topic: &str, partition: u32) -> bool {
    places.get(topic).is_some_and(|partitions| partitions.contains(&partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_reads_back_as_it_was() {
        let places: Places = [("t".to_owned(), [0, 7].into())].into();
        let said = Announcement {
            member: "a".to_owned(),
            hello: true,
            closing: true,
            topics: [("t".to_owned(), 8)].into(),
            holdings: Holdings {
                active: places.clone(),
                releasing: places.clone(),
                unsettled: [("t".to_owned(), [(7, 3)].into())].into(),
                ..Holdings::default()
            },
            declined: places,
            knows: ["b".to_owned()].into(),
            epoch: 5,
            ..Announcement::default()
        };
        let text = serde_json::to_vec(&said).unwrap();
        assert_eq!(serde_json::from_slice::<Announcement>(&text).unwrap(), said);
    }
}
