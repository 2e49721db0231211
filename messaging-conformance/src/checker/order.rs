//! The order of a lane: in the log, of first starts, of replays; and that handlers of a lane do not overlap.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use messaging::Position;

use super::{
    GroupExpectation, Report, Rule,
    facts::{Answer, Facts, Published, Run},
    loss,
};

/// The log has what one publisher sent, and what was sent after a confirm, in that order.
pub(super) fn check_log(facts: &Facts<'_>, report: &mut Report) {
    type Lane<'a> = (&'a str, &'a str);
    let mut lanes: HashMap<Lane<'_>, Vec<(u64, &Published<'_>)>> = HashMap::new();
    for (id, message) in &facts.messages {
        if let Some(key) = message.key {
            lanes.entry((message.topic, key)).or_default().push((*id, message));
        }
    }
    for ((topic, key), mut lane) in lanes {
        lane.sort_by_key(|(_, message)| (message.attempted, message.seq));
        check_promised_order(topic, key, &lane, report);
        let partitions = lane.iter().filter_map(|(_, message)| stored(message).map(|(partition, _)| partition));
        let mut partitions: Vec<u32> = partitions.collect();
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.len() > 1 {
            report.violate(Rule::Stored, format!("{topic}, key {key}: in partitions {partitions:?}"));
        }
    }
}

fn stored(message: &Published<'_>) -> Option<(u32, Position)> {
    match message.outcome {
        Answer::Confirmed { partition, position: Some(position), .. } => Some((partition, position)),
        _ => None,
    }
}

/// Each message stands behind those that it was promised to follow.
fn check_promised_order(topic: &str, key: &str, lane: &[(u64, &Published<'_>)], report: &mut Report) {
    // The furthest position of what was confirmed before a point in time.
    let mut confirmed: Vec<(u64, Position, u64)> = lane
        .iter()
        .filter_map(|(id, message)| match message.outcome {
            Answer::Confirmed { at, position: Some(position), .. } => Some((at, position, *id)),
            _ => None,
        })
        .collect();
    confirmed.sort_unstable();
    let mut furthest: Vec<(u64, Position, u64)> = Vec::with_capacity(confirmed.len());
    for (at, position, id) in confirmed {
        let best = furthest.last().filter(|(_, best, _)| *best > position).map(|(_, best, id)| (*best, *id));
        let (position, id) = best.unwrap_or((position, id));
        furthest.push((at, position, id));
    }
    // The last message of each publisher, for as long as all of its outcomes are confirmed.
    let mut unbroken: HashMap<&str, (Position, u64)> = HashMap::new();
    for (id, message) in lane {
        let Some((_, position)) = stored(message) else {
            if message.outcome != Answer::None {
                unbroken.remove(&**message.publisher);
            }
            continue;
        };
        let before = furthest.partition_point(|(at, ..)| *at <= message.attempted).checked_sub(1);
        let earlier = before.map(|index| (furthest[index].1, furthest[index].2));
        for (earlier, other) in earlier.into_iter().chain(unbroken.get(&**message.publisher).copied()) {
            if earlier >= position && other != *id {
                report.violate(
                    Rule::Stored,
                    format!("{topic}, key {key}: message {id} at {position} stands before {other} at {earlier}"),
                );
            }
        }
        unbroken.insert(message.publisher, (position, *id));
    }
}

/// Starts of a group are in the log's order, lane by lane, without overlap.
pub(super) fn check_handling(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    type Lane<'a> = (&'a str, u32, &'a str);
    let mut lanes: HashMap<Lane<'_>, Vec<&Run<'_>>> = HashMap::new();
    for run in facts.runs_of(&group.group) {
        if let Some(key) = &run.start.key {
            lanes.entry((&run.start.topic, run.start.partition, key)).or_default().push(run);
        }
    }
    let dead: BTreeSet<u64> = loss::dead(facts, group).collect();
    for lane in lanes.values() {
        check_sequence(facts, lane, &dead, report);
        check_overlap(facts, lane, report);
    }
}

/// Every start comes after all that stand before it in the lane were finished.
fn check_sequence(facts: &Facts<'_>, lane: &[&Run<'_>], dead: &BTreeSet<u64>, report: &mut Report) {
    let places: BTreeMap<Position, Stay> = stays(facts, lane, dead);
    // For each place, the one before it that was finished last.
    let mut before: HashMap<Position, (Stay, Position)> = HashMap::new();
    let mut latest: Option<(Stay, Position)> = None;
    for (place, stay) in places {
        if let Some(latest) = latest {
            before.insert(place, latest);
        }
        if latest.is_none_or(|(latest, _)| stay.finished > latest.finished) {
            latest = Some((stay, place));
        }
    }
    for run in lane.iter().filter(|run| !run.stale) {
        let Some((stay, earlier)) = facts.place(run).and_then(|place| before.get(&place)) else { continue };
        if run.from < stay.finished {
            let rule = if run.from < stay.started { Rule::Order } else { Rule::Replay };
            let earlier = if facts.lasting_positions { earlier.to_string() } else { "another".to_owned() };
            report.violate(rule, format!("started before {earlier} of its lane was finished: {}", run.describe()));
        }
    }
}

/// From when to when a message held its lane.
#[derive(Clone, Copy)]
struct Stay {
    /// Its first start.
    started: u64,
    /// Its first success, or its last attempt if it is a dead letter.
    finished: u64,
}

fn stays(facts: &Facts<'_>, lane: &[&Run<'_>], dead: &BTreeSet<u64>) -> BTreeMap<Position, Stay> {
    let mut stays: BTreeMap<Position, Stay> = BTreeMap::new();
    let mut last_attempts: HashMap<Position, u32> = HashMap::new();
    let placed = || lane.iter().filter_map(|run| Some((facts.place(run)?, *run)));
    for (place, run) in placed() {
        let stay = stays.entry(place).or_insert(Stay { started: u64::MAX, finished: u64::MAX });
        stay.started = run.from.min(stay.started);
        if run.handled() {
            stay.finished = run.to.min(stay.finished);
        }
        let last = last_attempts.entry(place).or_default();
        *last = run.start.attempt.max(*last);
    }
    for (place, run) in placed() {
        let is_last = last_attempts.get(&place) == Some(&run.start.attempt);
        if is_last
            && run.start.id.is_some_and(|id| dead.contains(&id))
            && let Some(stay) = stays.get_mut(&place)
        {
            stay.finished = run.to.min(stay.finished);
        }
    }
    stays
}

/// No two runs of a lane at once, but for those that a lost owner had begun.
fn check_overlap(facts: &Facts<'_>, lane: &[&Run<'_>], report: &mut Report) {
    let mut open: Vec<&Run<'_>> = Vec::new();
    for run in lane {
        open.retain(|other| other.to > run.from);
        let mut excused = false;
        for other in &open {
            let lost = facts.was_struck(other.who, other.from, other.to) && other.who != run.who;
            let late = run.stale && facts.was_struck_before(run.who, run.from);
            let cut_off = other.who != run.who && facts.was_harmed(other.from, run.from);
            excused |= lost || late || cut_off;
            if !(lost || late || cut_off) {
                report.violate(Rule::Overlap, format!("{} while {}", run.describe(), other.describe()));
            }
        }
        report.figures.overlapped += usize::from(excused);
        open.push(run);
    }
}
