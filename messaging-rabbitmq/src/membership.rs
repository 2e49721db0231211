//! [`Membership`]: who is in a group, as one member knows it, and what follows from that: which partitions are its own.
//!
//! Members announce themselves every second, and at once when something changes, with what they hold. Each makes the same
//! plan out of what it has heard, and takes what is its own by the plan once nobody else says that he still has it: the
//! owner before has said that it is released, or has been silent for too long. While members know different things two
//! may want the same partition: its queue then hands over to one of them only (single active consumer), until they agree.
//! A plain state machine; time goes in as an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use messaging::assignment::{Plan, Planned};

use crate::announcement::{Announcement, Holdings, Places, has};

/// How often a member announces itself.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// After this long without an announcement a member counts as gone, and others get in line for what it has.
const SILENCE: Duration = Duration::from_millis(3_500);
/// How long somebody who has given a partition up leaves it to others.
const DECLINED: Duration = Duration::from_secs(5);

/// What has changed by an announcement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The plan may be another now.
    pub(crate) changed: bool,
    /// Somebody wants to know who is here.
    pub(crate) asked: bool,
}

/// A group, as one of its members knows it.
pub(crate) struct Membership {
    me: Announcement,
    others: BTreeMap<String, (Announcement, Instant)>,
    declined: Vec<(String, u32, Instant)>,
    /// The highest epoch that is known.
    epoch: u64,
}

impl Membership {
    pub(crate) fn new(member: String, topics: BTreeMap<String, u32>) -> Self {
        let me = Announcement { member, topics, ..Announcement::default() };
        Self { me, others: BTreeMap::new(), declined: Vec::new(), epoch: 0 }
    }

    /// This member's name.
    pub(crate) fn name(&self) -> &str {
        &self.me.member
    }

    /// A name for a new member, by which earlier ones come first.
    pub(crate) fn name_now(unix_millis: u64) -> String {
        format!("{unix_millis:012x}-{:08x}", fastrand::u32(..))
    }

    /// Takes an announcement in; one's own say nothing new.
    pub(crate) fn hear(&mut self, heard: Announcement, now: Instant) -> Heard {
        self.epoch = self.epoch.max(heard.epoch);
        if heard.member == self.me.member {
            return Heard::default();
        }
        if heard.left {
            return Heard { changed: self.others.remove(&heard.member).is_some(), asked: false };
        }
        let asked = heard.hello || heard.asks;
        if heard.asks {
            return Heard { changed: false, asked };
        }
        let plain = heard.essence();
        let known = self.others.get_mut(&plain.member);
        let changed = known.is_none_or(|(known, at)| {
            *at = now;
            *known != plain
        });
        if changed {
            self.others.insert(plain.member.clone(), (plain, now));
        }
        Heard { changed, asked }
    }

    /// Forgets whoever has been silent for too long, and what was declined long enough ago. Answers whether anything was
    /// forgotten.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let before = (self.others.len(), self.declined.len());
        self.others.retain(|_, (_, at)| now.saturating_duration_since(*at) < SILENCE);
        self.declined.retain(|(_, _, at)| now.saturating_duration_since(*at) < DECLINED);
        before != (self.others.len(), self.declined.len())
    }

    /// Whether somebody else is there.
    pub(crate) fn has_others(&self) -> bool {
        self.others.values().any(|(other, _)| !other.closing)
    }

    /// Leaves a partition to others for a while.
    pub(crate) fn decline(&mut self, topic: &str, partition: u32, now: Instant) {
        self.declined.push((topic.to_owned(), partition, now));
    }

    pub(crate) fn close(&mut self) {
        self.me.closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.me.closing
    }

    /// An epoch later than any that is known, and no earlier than the clock.
    pub(crate) fn next_epoch(&mut self, unix_micros: u64) -> u64 {
        self.epoch = unix_micros.max(self.epoch + 1);
        self.epoch
    }

    /// Whether somebody else still has this partition, as far as is known.
    pub(crate) fn others_keep(&self, topic: &str, partition: u32) -> bool {
        self.others.values().any(|(other, _)| other.holdings.keeps(topic, partition))
    }

    /// What to announce, having this.
    pub(crate) fn announcement(&mut self, holdings: Holdings) -> Announcement {
        let mut declined = Places::new();
        for (topic, partition, _) in &self.declined {
            declined.entry(topic.clone()).or_default().insert(*partition);
        }
        (self.me.holdings, self.me.declined) = (holdings, declined);
        Announcement { epoch: self.epoch, knows: self.others.keys().cloned().collect(), ..self.me.clone() }
    }

    /// The partitions that are this member's own by what is known, with what it was last said to have.
    pub(crate) fn plan(&self) -> BTreeSet<(String, u32)> {
        let mut members: Vec<&Announcement> = self.others.values().map(|(other, _)| other).collect();
        members.push(&self.me);
        members.sort_by(|one, other| one.member.cmp(&other.member));
        let mut topics: BTreeMap<&str, u32> = BTreeMap::new();
        for (topic, count) in members.iter().flat_map(|member| &member.topics) {
            let known = topics.entry(topic).or_default();
            *known = (*known).max(*count);
        }
        let numbers: BTreeMap<&str, u32> = topics.keys().copied().zip(0..).collect();
        let takes: Vec<Vec<u32>> = members
            .iter()
            .map(|member| if member.closing { Vec::new() } else { numbers_of(member, &numbers) })
            .collect();
        let places: Vec<(&str, u32)> =
            topics.iter().flat_map(|(topic, count)| (0..*count).map(move |partition| (*topic, partition))).collect();
        let holder = |topic: &str, partition: u32| {
            let among = |holds: fn(&Holdings) -> &Places| {
                members.iter().position(|member| !member.closing && has(holds(&member.holdings), topic, partition))
            };
            among(|holds| &holds.active).or_else(|| among(|holds| &holds.waiting)).map(|index| index as u32)
        };
        let mut planned: Vec<Planned> = places
            .iter()
            .map(|(topic, partition)| {
                let owner = holder(topic, *partition);
                Planned { topic: numbers[topic], owner, target: owner }
            })
            .collect();
        Plan::new(&mut planned, shares(&takes)).make();
        for index in 0..planned.len() {
            let (topic, partition) = places[index];
            let declines = |target: u32| has(&members[target as usize].declined, topic, partition);
            if planned[index].target.is_some_and(declines) {
                Plan::new(&mut planned, shares(&takes)).move_away(index);
            }
        }
        let mine = members.iter().position(|member| member.member == self.me.member).map(|index| index as u32);
        let own = places.iter().zip(&planned).filter(|(_, planned)| planned.target.is_some() && planned.target == mine);
        own.map(|((topic, partition), _)| ((*topic).to_owned(), *partition)).collect()
    }
}

/// Members as the plan wants them.
fn shares(takes: &[Vec<u32>]) -> impl Iterator<Item = (u32, &[u32])> {
    (0..).zip(takes.iter().map(Vec::as_slice))
}

fn numbers_of(member: &Announcement, numbers: &BTreeMap<&str, u32>) -> Vec<u32> {
    member.topics.keys().filter_map(|topic| numbers.get(topic.as_str()).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "orders";

    /// Members that hear each other at once.
    struct Group {
        members: Vec<Membership>,
        holds: Vec<BTreeSet<u32>>,
        now: Instant,
    }

    fn active(partitions: BTreeSet<u32>) -> Holdings {
        Holdings { active: [(TOPIC.to_owned(), partitions)].into(), ..Holdings::default() }
    }

    impl Group {
        fn new() -> Self {
            Self { members: Vec::new(), holds: Vec::new(), now: Instant::now() }
        }

        fn join(&mut self) {
            let name = format!("{:04}", self.members.len());
            self.members.push(Membership::new(name, [(TOPIC.to_owned(), 16)].into()));
            self.holds.push(BTreeSet::new());
        }

        /// Each announces what it has, then makes its plan come true, as if at once.
        fn round(&mut self) {
            for speaker in 0..self.members.len() {
                let said = self.members[speaker].announcement(active(self.holds[speaker].clone()));
                for member in &mut self.members {
                    member.hear(said.clone(), self.now);
                }
            }
            self.holds = self
                .members
                .iter()
                .map(|member| member.plan().into_iter().map(|(_, partition)| partition).collect())
                .collect();
        }

        fn shares(&self) -> Vec<usize> {
            self.holds.iter().map(BTreeSet::len).collect()
        }

        fn assert_disjoint(&self) {
            let all: Vec<u32> = self.holds.iter().flatten().copied().collect();
            assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (16, 16), "{:?}", self.holds);
        }
    }

    #[test]
    fn members_that_know_the_same_agree_and_stay_with_what_they_have() {
        let mut group = Group::new();
        group.join();
        group.round();
        assert_eq!(group.shares(), [16]);
        for shares in [vec![8, 8], vec![6, 5, 5]] {
            let before = group.holds.clone();
            group.join();
            group.round();
            group.assert_disjoint();
            let mut found = group.shares();
            found.sort_unstable_by(|one, other| other.cmp(one));
            assert_eq!(found, shares);
            assert!(group.holds.iter().zip(&before).all(|(after, before)| after.is_subset(before)));
            let stable = group.holds.clone();
            group.round();
            assert_eq!(group.holds, stable);
        }
    }

    #[test]
    fn whoever_is_silent_or_leaves_or_closes_gets_nothing() {
        let mut group = Group::new();
        for _ in 0..3 {
            group.join();
        }
        group.round();
        group.round();
        let before = group.holds[0].clone();
        group.now += SILENCE;
        // The last one says nothing any more; the others do.
        let silent = group.members.pop().unwrap();
        group.holds.pop();
        group.round();
        assert!(group.members.iter_mut().all(|member| member.pass(group.now)));
        group.round();
        group.assert_disjoint();
        assert!(before.is_subset(&group.holds[0]));
        // It is heard again.
        group.members.push(silent);
        group.holds.push(BTreeSet::new());
        group.round();
        group.round();
        assert_eq!(group.shares().iter().sum::<usize>(), 16);
        group.members[1].close();
        group.round();
        assert_eq!(group.shares(), [8, 0, 8]);
    }

    #[test]
    fn what_somebody_declines_goes_to_another_if_there_is_one() {
        let mut group = Group::new();
        group.join();
        group.join();
        group.round();
        let given_up = *group.holds[0].first().unwrap();
        let now = group.now;
        group.members[0].decline(TOPIC, given_up, now);
        group.holds[0].remove(&given_up);
        group.round();
        assert!(group.holds[1].contains(&given_up) && !group.holds[0].contains(&given_up), "{:?}", group.holds);
        let mut alone = Membership::new("a".to_owned(), [(TOPIC.to_owned(), 2)].into());
        alone.decline(TOPIC, 1, now);
        alone.announcement(Holdings::default());
        assert_eq!(alone.plan().len(), 2);
    }

    #[test]
    fn epochs_grow_past_whatever_was_heard() {
        let mut member = Membership::new("a".to_owned(), BTreeMap::new());
        assert_eq!(member.next_epoch(100), 100);
        assert_eq!(member.next_epoch(50), 101);
        let heard = Announcement { member: "b".to_owned(), epoch: 500, ..Announcement::default() };
        member.hear(heard, Instant::now());
        assert_eq!(member.next_epoch(200), 501);
    }

    #[test]
    fn an_active_holder_comes_before_one_that_stands_in_line() {
        let now = Instant::now();
        let mut member = Membership::new("b".to_owned(), [(TOPIC.to_owned(), 1)].into());
        let mut earlier = Announcement { member: "a".to_owned(), ..Announcement::default() };
        earlier.topics.insert(TOPIC.to_owned(), 1);
        earlier.holdings.waiting = active([0].into()).active;
        member.hear(earlier.clone(), now);
        assert_eq!(member.plan().len(), 0);
        member.announcement(active([0].into()));
        assert_eq!(member.plan().len(), 1);
    }

    #[test]
    fn what_somebody_is_still_giving_up_is_kept_until_he_says_so_or_falls_silent() {
        let now = Instant::now();
        let mut member = Membership::new("b".to_owned(), [(TOPIC.to_owned(), 2)].into());
        let mut other = Announcement { member: "a".to_owned(), closing: true, ..Announcement::default() };
        other.topics.insert(TOPIC.to_owned(), 2);
        other.holdings.releasing = active([0, 1].into()).active;
        member.hear(other.clone(), now);
        assert_eq!(member.plan().len(), 2);
        assert!(member.others_keep(TOPIC, 0) && member.others_keep(TOPIC, 1));
        other.holdings.releasing = active([1].into()).active;
        assert!(member.hear(other.clone(), now).changed);
        assert!(!member.others_keep(TOPIC, 0) && member.others_keep(TOPIC, 1));
        assert!(member.pass(now + SILENCE) && !member.others_keep(TOPIC, 1));
    }

    #[test]
    fn whoever_only_asks_is_answered_and_is_no_member() {
        let mut member = Membership::new("a".to_owned(), [(TOPIC.to_owned(), 2)].into());
        let question = Announcement { asks: true, ..Announcement::default() };
        assert_eq!(member.hear(question, Instant::now()), Heard { changed: false, asked: true });
        assert!(!member.has_others());
    }

    #[test]
    fn how_much_is_unsettled_changes_no_plan() {
        let mut member = Membership::new("a".to_owned(), [(TOPIC.to_owned(), 2)].into());
        let mut other = Announcement { member: "b".to_owned(), ..Announcement::default() };
        assert!(member.hear(other.clone(), Instant::now()).changed);
        other.holdings.unsettled.entry(TOPIC.to_owned()).or_default().insert(1, 7);
        assert_eq!(other.holdings.unsettled(TOPIC, 1), 7);
        assert!(!member.hear(other, Instant::now()).changed);
    }
}
