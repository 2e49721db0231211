//! Who shares a topic's partitions in a group: what members say of themselves, and what each is to do. Plain functions;
//! nobody leads, everybody computes the same [`Plan`] from the same.
//!
//! A partition changes hands only after its owner has let it go, and only by its lease, so that members may see each
//! other late.

use std::{collections::BTreeMap, time::Duration};

use messaging::assignment::{Plan, Planned};
use redis::Value;

/// After this long without an announcement a member counts as silent.
const SILENT: Duration = Duration::from_millis(1_500);

/// One live instance of a group, as it announced itself on one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// It takes nothing any more: it is about to leave.
    pub(crate) leaving: bool,
    /// It has missed several announcements, and may be dead: it is not relied on, and whoever is to have its partitions
    /// tries to take them, which its leases allow once they have lapsed.
    pub(crate) silent: bool,
    /// The partitions it holds.
    pub(crate) held: Vec<u32>,
    /// Those of them that it is letting go.
    pub(crate) letting_go: Vec<u32>,
}

/// Who lives on one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Board {
    pub(crate) partitions: u32,
    pub(crate) members: Vec<Member>,
}

/// What one member is to do, as (index of the topic, partition).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Duties {
    pub(crate) let_go: Vec<(usize, u32)>,
    /// Nobody who can be relied on has these, as far as is known.
    pub(crate) take: Vec<(usize, u32)>,
}

/// What is announced.
pub(crate) fn record(leaving: bool, held: &[u32], letting_go: &[u32]) -> String {
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    format!("{} {} {}", u8::from(leaving), list(held), list(letting_go))
}

fn parse(id: String, record: &str) -> Option<Member> {
    let list = |text: &str| -> Option<Vec<u32>> {
        text.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect()
    };
    let mut parts = record.split(' ');
    let leaving = parts.next()? == "1";
    Some(Member { id, leaving, silent: false, held: list(parts.next()?)?, letting_go: list(parts.next()?)? })
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
    while let (Some(id), Some(silent), Some(record)) = (texts.next(), texts.next(), texts.next()) {
        let mut member = parse(id?, &record?)?;
        member.silent = Duration::from_micros(silent?.parse().ok()?) > SILENT;
        members.push(member);
    }
    Some((now, members))
}

/// What `me` is to do about these topics.
pub(crate) fn duties(boards: &[Board], me: &str) -> Duties {
    // By id, so that everybody considers the members in the same order.
    let mut topics_of: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (topic, board) in (0..).zip(boards) {
        for member in board.members.iter().filter(|member| !member.leaving && !member.silent) {
            topics_of.entry(&member.id).or_default().push(topic);
        }
    }
    let number_of: BTreeMap<&str, u32> = topics_of.keys().copied().zip(0..).collect();
    let mut partitions = Vec::new();
    let mut places = Vec::new();
    for (topic, board) in boards.iter().enumerate() {
        for partition in 0..board.partitions {
            // What a silent one announced last may have been taken from it since.
            let holders = board.members.iter().filter(|member| member.held.contains(&partition));
            let owner = holders.min_by_key(|member| member.silent);
            let stays = owner.filter(|owner| !owner.letting_go.contains(&partition));
            let number = |member: &Member| number_of.get(member.id.as_str()).copied();
            partitions.push(Planned {
                topic: topic as u32,
                owner: owner.and_then(number),
                target: stays.and_then(number),
            });
            places.push((topic, partition, owner));
        }
    }
    let members = topics_of.values().zip(0..).map(|(topics, number)| (number, topics.as_slice()));
    Plan::new(&mut partitions, members).make();
    let mine = number_of.get(me).copied();
    let mut duties = Duties::default();
    for (planned, (topic, partition, owner)) in partitions.iter().zip(places) {
        let is_target = planned.target.is_some() && planned.target == mine;
        match owner {
            None if is_target => duties.take.push((topic, partition)),
            Some(owner) if owner.silent && is_target => duties.take.push((topic, partition)),
            Some(owner) if owner.id == me && !is_target && !owner.letting_go.contains(&partition) => {
                duties.let_go.push((topic, partition));
            }
            _ => {}
        }
    }
    duties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, held: &[u32]) -> Member {
        Member { id: id.into(), leaving: false, silent: false, held: held.into(), letting_go: Vec::new() }
    }

    /// Lets every member act on what it sees, until nobody has anything to do; answers how many partitions moved.
    fn settle(board: &mut Board) -> usize {
        let mut moved = 0;
        for _ in 0..100 {
            let mut quiet = true;
            for index in 0..board.members.len() {
                let duties = duties(std::slice::from_ref(board), &board.members[index].id.clone());
                let held = &mut board.members[index].held;
                moved += duties.let_go.len();
                held.retain(|number| !duties.let_go.contains(&(0, *number)));
                held.extend(duties.take.iter().map(|(_, number)| *number));
                quiet &= duties == Duties::default();
            }
            if quiet {
                return moved;
            }
        }
        panic!("no end: {board:?}");
    }

    fn sizes(board: &Board) -> Vec<usize> {
        let mut sizes: Vec<usize> = board.members.iter().map(|member| member.held.len()).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn joining_and_leaving_move_only_what_must_move() {
        let mut board = Board { partitions: 16, members: vec![member("a", &[])] };
        assert_eq!(settle(&mut board), 0);
        board.members.push(member("b", &[]));
        assert_eq!((settle(&mut board), sizes(&board)), (8, vec![8, 8]));
        board.members.push(member("c", &[]));
        assert_eq!((settle(&mut board), sizes(&board)), (5, vec![5, 5, 6]));
        board.members.remove(0);
        assert_eq!((settle(&mut board), sizes(&board)), (0, vec![8, 8]));
    }

    #[test]
    fn one_that_leaves_counts_no_more_but_keeps_what_it_still_holds() {
        let leaving = Member { leaving: true, ..member("a", &[0, 1]) };
        let boards = [Board { partitions: 4, members: vec![leaving, member("b", &[2])] }];
        assert_eq!(duties(&boards, "b"), Duties { let_go: vec![], take: vec![(0, 3)] });
        assert_eq!(duties(&boards, "a").take, []);
    }

    #[test]
    fn what_a_silent_one_holds_is_tried_by_those_who_are_to_have_it_and_by_nobody_else() {
        let silent = Member { silent: true, ..member("a", &[0, 1]) };
        let boards = [Board { partitions: 4, members: vec![silent, member("b", &[2]), member("c", &[3])] }];
        let (b, c) = (duties(&boards, "b"), duties(&boards, "c"));
        assert_eq!((b.let_go, c.let_go), (vec![], vec![]));
        assert_eq!((b.take.len(), c.take.len()), (1, 1));
        assert_ne!(b.take, c.take);
        assert_eq!(duties(&boards, "a").take, []);
        // Whoever got it has it, whatever the silent one said last.
        let [mut board] = boards;
        board.members[1].held.push(b.take[0].1);
        let after = duties(std::slice::from_ref(&board), "b");
        assert_eq!((after.let_go, after.take), (vec![], vec![]));
    }

    #[test]
    fn what_is_being_let_go_is_not_asked_for_twice_and_nothing_else_in_its_stead() {
        let mut a = member("a", &[0, 1, 2, 3]);
        let boards = |a: &Member| [Board { partitions: 4, members: vec![a.clone(), member("b", &[])] }];
        let first = duties(&boards(&a), "a").let_go;
        assert_eq!(first.len(), 2);
        a.letting_go = first.iter().map(|(_, number)| *number).collect();
        assert_eq!(duties(&boards(&a), "a"), Duties::default());
        assert_eq!(duties(&boards(&a), "b"), Duties::default(), "they are not free yet");
        a.held.retain(|number| !a.letting_go.contains(number));
        a.letting_go.clear();
        assert_eq!(duties(&boards(&a), "b").take, first);
    }

    #[test]
    fn an_answer_reads_as_it_was_announced() {
        let none = record(false, &[], &[]);
        let texts = ["17", "a", "0", &record(true, &[1, 2], &[2]), "b", "9", &none, "c", "1500001", &none];
        let answer = Value::Array(texts.map(|text| Value::BulkString(text.into())).into());
        let (now, members) = read(answer).unwrap();
        let a = Member { leaving: true, letting_go: vec![2], ..member("a", &[1, 2]) };
        let c = Member { silent: true, ..member("c", &[]) };
        assert_eq!((now, members), (17, vec![a, member("b", &[]), c]));
    }
}
