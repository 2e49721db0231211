//! Who shares a topic's partitions in a group: what members say of themselves, and the share of each that follows. Plain
//! functions; nobody leads, everybody computes the same from the same.
//!
//! Shares differ by one at most. Those who hold most keep the larger ones, so that joining and leaving move only what
//! must move. A partition changes hands only after its owner has let it go, so that members may see each other late.

use std::hash::BuildHasher;

use redis::Value;

/// One live instance of a group, as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// It is about to leave, and takes nothing any more.
    pub(crate) leaving: bool,
    /// The partitions it holds.
    pub(crate) held: Vec<u32>,
}

/// What one member is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many partitions to let go, beside those that are being let go already.
    pub(crate) give_up: usize,
    /// Free partitions to take, at most `take_at_most` of them, in this order.
    pub(crate) take: Vec<u32>,
    pub(crate) take_at_most: usize,
}

impl Member {
    /// What is announced.
    pub(crate) fn record(leaving: bool, held: &[u32]) -> String {
        let held: Vec<String> = held.iter().map(u32::to_string).collect();
        format!("{} {}", u8::from(leaving), held.join(","))
    }

    fn parse(id: String, record: &str) -> Option<Self> {
        let (leaving, held) = record.split_once(' ')?;
        let held = held.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok());
        Some(Self { id, leaving: leaving == "1", held: held.collect::<Option<_>>()? })
    }
}

/// Reads the answer to an announcement: the server's time in microseconds, and who lives.
pub(crate) fn read(answer: Value) -> Option<(u64, Vec<Member>)> {
    let Value::Array(parts) = answer else { return None };
    let mut texts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    let now = texts.next()??.parse().ok()?;
    let mut members = Vec::new();
    while let (Some(id), Some(record)) = (texts.next(), texts.next()) {
        members.push(Member::parse(id?, &record?)?);
    }
    Some((now, members))
}

/// What `me` is to do about a topic of so many partitions, `letting_go` of which it is giving up already.
pub(crate) fn plan(topic: &str, partitions: u32, members: &[Member], me: &str, letting_go: usize) -> Plan {
    let nothing = Plan { give_up: 0, take: Vec::new(), take_at_most: 0 };
    let mut sharing: Vec<&Member> = members.iter().filter(|member| !member.leaving).collect();
    // The hash spreads the larger shares of many topics over the members.
    let spread = |member: &Member| foldhash::fast::FixedState::default().hash_one((topic, member.id.as_str()));
    sharing.sort_by_cached_key(|member| (usize::MAX - member.held.len(), spread(member), member.id.clone()));
    let Some(rank) = sharing.iter().position(|member| member.id == me) else { return nothing };
    let count = partitions as usize;
    let quota = count / sharing.len() + usize::from(rank < count % sharing.len());
    let held = sharing[rank].held.len();
    let mut free: Vec<u32> =
        (0..partitions).filter(|number| !members.iter().any(|member| member.held.contains(number))).collect();
    if !free.is_empty() {
        // Each begins elsewhere, so that they do not all ask for the same.
        let start = rank * free.len() / sharing.len();
        free.rotate_left(start);
    }
    Plan { give_up: held.saturating_sub(letting_go + quota), take: free, take_at_most: quota.saturating_sub(held) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, held: &[u32]) -> Member {
        Member { id: id.into(), leaving: false, held: held.into() }
    }

    /// Lets every member act on what it sees, until nobody has anything to do; answers how many partitions moved.
    fn settle(partitions: u32, members: &mut [Member]) -> usize {
        let mut moved = 0;
        for _ in 0..100 {
            let mut quiet = true;
            for index in 0..members.len() {
                let plan = plan("t", partitions, members, &members[index].id.clone(), 0);
                for _ in 0..plan.give_up {
                    members[index].held.pop();
                    moved += 1;
                    quiet = false;
                }
                for number in plan.take.into_iter().take(plan.take_at_most) {
                    members[index].held.push(number);
                    quiet = false;
                }
            }
            if quiet {
                return moved;
            }
        }
        panic!("no end: {members:?}");
    }

    fn sizes(members: &[Member]) -> Vec<usize> {
        let mut sizes: Vec<usize> = members.iter().map(|member| member.held.len()).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn joining_moves_only_what_must_move() {
        let mut members = vec![member("a", &[])];
        assert_eq!(settle(16, &mut members), 0);
        members.push(member("b", &[]));
        assert_eq!((settle(16, &mut members), sizes(&members)), (8, vec![8, 8]));
        members.push(member("c", &[]));
        assert_eq!((settle(16, &mut members), sizes(&members)), (5, vec![5, 5, 6]));
    }

    #[test]
    fn leaving_moves_only_what_was_left() {
        let mut members: Vec<Member> = ["a", "b", "c", "d"].map(|id| member(id, &[])).into();
        settle(10, &mut members);
        members.pop();
        assert_eq!((settle(10, &mut members), sizes(&members)), (0, vec![3, 3, 4]));
    }

    #[test]
    fn one_that_leaves_counts_no_more_but_keeps_what_it_still_holds() {
        let mut leaving = member("a", &[0, 1]);
        leaving.leaving = true;
        let members = [leaving, member("b", &[2])];
        let plan_b = plan("t", 4, &members, "b", 0);
        assert_eq!((plan_b.give_up, plan_b.take, plan_b.take_at_most), (0, vec![3], 3));
        assert_eq!(plan("t", 4, &members, "a", 0).take_at_most, 0);
    }

    #[test]
    fn more_members_than_partitions() {
        let mut members: Vec<Member> = ["a", "b", "c"].map(|id| member(id, &[])).into();
        settle(2, &mut members);
        assert_eq!(sizes(&members), [0, 1, 1]);
        assert_eq!(settle(2, &mut members), 0);
    }

    #[test]
    fn what_is_being_let_go_is_not_asked_for_twice() {
        let members = [member("a", &[0, 1, 2, 3]), member("b", &[])];
        assert_eq!(plan("t", 4, &members, "a", 0).give_up, 2);
        assert_eq!(plan("t", 4, &members, "a", 2).give_up, 0);
    }

    #[test]
    fn single_partitions_of_many_topics_spread() {
        let members = [member("a", &[]), member("b", &[])];
        let first = (0..100).filter(|topic| plan(&format!("t{topic}"), 1, &members, "a", 0).take_at_most == 1).count();
        assert!((20..=80).contains(&first), "{first}");
    }

    #[test]
    fn an_answer_reads_as_it_was_announced() {
        let texts = ["17", "a", &Member::record(true, &[1, 2]), "b", &Member::record(false, &[])];
        let answer = Value::Array(texts.map(|text| Value::BulkString(text.into())).into());
        let (now, members) = read(answer).unwrap();
        assert_eq!((now, members[0].leaving, members[0].held.as_slice()), (17, true, &[1, 2][..]));
        assert_eq!(members[1], member("b", &[]));
    }
}
