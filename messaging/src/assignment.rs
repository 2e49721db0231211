//! [`Plan`]: which member of a group is to have which partition: evenly, and with as few moves as that takes.
//!
//! A pure computation, for backends that assign partitions themselves: the same input gives the same plan, so that
//! members who know the same of each other agree without talking. Topics and members are numbers that the caller chooses;
//! members are considered in the order in which they are given.

/// One partition to be planned.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Its topic.
    pub topic: u32,
    /// Who has it in fact; of partitions that might move, one that returns to its owner is preferred.
    pub owner: Option<u32>,
    /// Who is to have it.
    pub target: Option<u32>,
}

/// Who may have partitions of which topics, and how many each is to have.
#[derive(Debug)]
pub struct Plan<'a> {
    partitions: &'a mut [Planned],
    members: Vec<Share<'a>>,
}

#[derive(Debug)]
struct Share<'a> {
    member: u32,
    topics: &'a [u32],
    /// How many partitions of each of its topics.
    of_topic: Vec<usize>,
    total: usize,
}

impl<'a> Plan<'a> {
    /// Of these partitions and members, each with the topics of which it may have some. A target that is none of the
    /// members, or may not have the partition, is forgotten.
    #[must_use]
    pub fn new(partitions: &'a mut [Planned], members: impl IntoIterator<Item = (u32, &'a [u32])>) -> Self {
        let members = members.into_iter().map(|(member, topics)| Share {
            member,
            topics,
            of_topic: vec![0; topics.len()],
            total: 0,
        });
        let mut plan = Self { members: members.collect(), partitions };
        for index in 0..plan.partitions.len() {
            let Planned { topic, target, .. } = plan.partitions[index];
            let member = plan.members.iter().position(|share| Some(share.member) == target && share.takes(topic));
            match member {
                Some(member) => plan.members[member].add(topic),
                None => plan.partitions[index].target = None,
            }
        }
        plan
    }

    /// Gives every partition to somebody who may have it, and evens out.
    pub fn make(mut self) {
        for index in 0..self.partitions.len() {
            let topic = self.partitions[index].topic;
            if self.partitions[index].target.is_none()
                && let Some(member) = self.least_loaded(topic, None)
            {
                self.partitions[index].target = Some(self.members[member].member);
                self.members[member].add(topic);
            }
        }
        // Each move makes the shares more even, so that there is a last one.
        while let Some((from, to, topic)) = self.best_move() {
            let (from_member, to_member) = (self.members[from].member, self.members[to].member);
            let candidates = self.partitions.iter_mut().rev();
            let candidates = candidates.filter(|planned| planned.topic == topic && planned.target == Some(from_member));
            let Some(moved) = candidates.max_by_key(|planned| planned.owner == Some(to_member)) else { break };
            moved.target = Some(to_member);
            self.members[from].remove(topic);
            self.members[to].add(topic);
        }
    }

    /// Plans a partition for the least loaded of the others, if there is any.
    pub fn move_away(mut self, index: usize) {
        let Planned { topic, target, .. } = self.partitions[index];
        if let Some(member) = self.least_loaded(topic, target) {
            self.partitions[index].target = Some(self.members[member].member);
        }
    }

    fn least_loaded(&mut self, topic: u32, except: Option<u32>) -> Option<usize> {
        let shares = self.members.iter().enumerate();
        let may = shares.filter(|(_, share)| share.takes(topic) && Some(share.member) != except);
        may.min_by_key(|(_, share)| (share.of(topic), share.total)).map(|(index, _)| index)
    }

    /// The move between two members that evens out most: the shares of a topic first, then those of all topics.
    fn best_move(&self) -> Option<(usize, usize, u32)> {
        let pairs = self.members.iter().enumerate().flat_map(|(from, giver)| {
            let takers = self.members.iter().enumerate().filter(move |(to, _)| *to != from);
            takers.flat_map(move |(to, taker)| {
                let topics = giver.topics.iter().copied().filter(move |topic| taker.takes(*topic));
                topics.filter_map(move |topic| {
                    let surplus = giver.of(topic).checked_sub(taker.of(topic)).filter(|surplus| *surplus > 0)?;
                    let overall = giver.total.saturating_sub(taker.total);
                    (surplus > 1 || overall > 1).then_some(((surplus, overall), (from, to, topic)))
                })
            })
        });
        // Of equal moves, topics from all over the list: those that belong together often stand together.
        pairs.max_by_key(|(gain, (_, _, topic))| (*gain, topic.reverse_bits())).map(|(_, best)| best)
    }
}

impl Share<'_> {
    fn takes(&self, topic: u32) -> bool {
        self.topics.contains(&topic)
    }

    fn slot(&self, topic: u32) -> Option<usize> {
        self.topics.iter().position(|taken| *taken == topic)
    }

    fn of(&self, topic: u32) -> usize {
        self.slot(topic).map_or(0, |slot| self.of_topic[slot])
    }

    fn add(&mut self, topic: u32) {
        if let Some(slot) = self.slot(topic) {
            self.of_topic[slot] += 1;
            self.total += 1;
        }
    }

    fn remove(&mut self, topic: u32) {
        if let Some(slot) = self.slot(topic) {
            self.of_topic[slot] -= 1;
            self.total -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: &[u32] = &[0, 1];

    fn partitions(counts: [usize; 2]) -> Vec<Planned> {
        let topics = counts.into_iter().zip(0..).flat_map(|(count, topic)| std::iter::repeat_n(topic, count));
        topics.map(|topic| Planned { topic, owner: None, target: None }).collect()
    }

    /// Plans, and lets the plan come true.
    fn balance(partitions: &mut [Planned], members: &[(u32, &'static [u32])]) {
        Plan::new(partitions, members.iter().copied()).make();
        partitions.iter_mut().for_each(|planned| planned.owner = planned.target);
    }

    fn share(partitions: &[Planned], member: u32, topic: Option<u32>) -> usize {
        let of =
            |planned: &&Planned| planned.target == Some(member) && topic.is_none_or(|topic| planned.topic == topic);
        partitions.iter().filter(of).count()
    }

    proptest! {
        #[test]
        fn instances_that_come_and_go_have_even_shares_and_move_only_theirs(
            counts in [1usize..40, 0usize..20],
            changes in prop::collection::vec(any::<(bool, u8)>(), 1..12),
        ) {
            let mut partitions = partitions(counts);
            let mut members: Vec<(u32, &[u32])> = vec![(0, BOTH)];
            balance(&mut partitions, &members);
            for (id, (joins, who)) in (1u32..).zip(changes) {
                let before = partitions.clone();
                let changed = if joins || members.len() == 1 {
                    members.push((id, BOTH));
                    id
                } else {
                    members.remove(usize::from(who) % members.len()).0
                };
                balance(&mut partitions, &members);
                for topic in [Some(0), Some(1), None] {
                    let shares: Vec<_> = members.iter().map(|(id, _)| share(&partitions, *id, topic)).collect();
                    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
                    prop_assert!(most - least <= 1, "{shares:?} of {topic:?}");
                }
                let moves = before.iter().zip(&partitions).filter(|(before, after)| before.target != after.target);
                let (own, others): (Vec<_>, Vec<_>) =
                    moves.partition(|(before, after)| [before.target, after.target].contains(&Some(changed)));
                // With two topics, evening out over both may take moves between the others.
                prop_assert!(counts[1] > 0 || others.is_empty(), "{own:?} and {others:?}");
                prop_assert!(others.len() <= members.len());
            }
        }

        #[test]
        fn whoever_may_have_a_partition_decides(
            counts in [0usize..20, 0usize..20],
            topics in prop::collection::vec(prop::sample::select(vec![&[0][..], &[1][..], BOTH, &[][..]]), 0..6),
        ) {
            let mut partitions = partitions(counts);
            let members: Vec<(u32, &'static [u32])> = (0..).zip(topics).collect();
            balance(&mut partitions, &members);
            for planned in &partitions {
                let may: Vec<u32> = members.iter().filter(|(_, topics)| topics.contains(&planned.topic)).map(|(id, _)| *id).collect();
                prop_assert_eq!(planned.target.is_some(), !may.is_empty());
                prop_assert!(planned.target.is_none_or(|target| may.contains(&target)));
            }
            let stable = partitions.clone();
            balance(&mut partitions, &members);
            prop_assert!(stable.iter().zip(&partitions).all(|(before, after)| before.target == after.target));
        }
    }

    #[test]
    fn a_partition_that_is_to_move_away_goes_to_the_least_loaded() {
        let mut partitions = partitions([5, 0]);
        let members: [(u32, &[u32]); 3] = [(0, BOTH), (1, BOTH), (2, BOTH)];
        balance(&mut partitions, &members);
        assert_eq!([0, 1, 2].map(|member| share(&partitions, member, None)), [2, 2, 1]);
        Plan::new(&mut partitions, members).move_away(0);
        assert_eq!([0, 1, 2].map(|member| share(&partitions, member, None)), [1, 2, 2]);
        let own = partitions.iter().position(|planned| planned.target == Some(0)).unwrap();
        Plan::new(&mut partitions, [(0, BOTH)]).move_away(own);
        assert_eq!(partitions[own].target, Some(0), "there is nobody else");
    }
}
