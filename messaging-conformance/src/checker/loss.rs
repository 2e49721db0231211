//! Confirmed means handled, dead-lettered, skipped or reported lost; and nothing unfinished is settled.

use std::collections::{BTreeSet, HashMap};

use messaging::Position;

use super::{GroupExpectation, Report, Rule, facts::Facts};
use crate::history::What;

pub(super) fn check(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    let dead: BTreeSet<u64> = dead(facts, group).collect();
    if group.complete {
        check_loss(facts, group, &dead, report);
    }
    check_watermarks(facts, group, &dead, report);
}

fn check_loss(facts: &Facts<'_>, group: &GroupExpectation, dead: &BTreeSet<u64>, report: &mut Report) {
    let handled: BTreeSet<u64> =
        facts.runs_of(&group.group).filter(|run| run.handled()).filter_map(|run| run.start.id).collect();
    let owed = facts.confirmed().filter(|(id, message)| {
        group.topics.contains(message.topic) && group.only.as_ref().is_none_or(|only| only.contains(id))
    });
    let missing: Vec<u64> = owed.map(|(id, _)| id).filter(|id| !handled.contains(id) && !dead.contains(id)).collect();
    let skipped = reported(facts, group, |what| match what {
        What::Skipped { group, count } => Some((group, *count)),
        _ => None,
    });
    let lost = reported(facts, group, |what| match what {
        What::ReportedLost { group, count } => Some((group, *count)),
        _ => None,
    });
    if missing.len() as u64 != group.skipped + group.lost {
        let expected = group.skipped + group.lost;
        for id in &missing {
            let message = &facts.messages[id];
            let key = message.key.map_or("no key", |key| key);
            report.violate(
                Rule::Lost,
                format!(
                    "message {id} ({}, {key}, number {} of {}) never reached group {}; {} are missing, {expected} may be",
                    message.topic, message.seq, message.publisher, group.group, missing.len()
                ),
            );
        }
        if missing.len() < expected as usize {
            report.violate(Rule::Lost, format!("{} are missing where {expected} should be", missing.len()));
        }
    }
    for (what, reported, expected) in [("skipped", skipped, group.skipped), ("lost", lost, group.lost)] {
        if reported != expected {
            report.violate(
                Rule::Lost,
                format!("group {} reported {reported} as {what}; it should be {expected}", group.group),
            );
        }
    }
}

/// The sum over members of what each reported last.
fn reported<'a>(
    facts: &'a Facts<'_>,
    group: &GroupExpectation,
    count: impl Fn(&'a What) -> Option<(&'a std::sync::Arc<str>, u64)>,
) -> u64 {
    let mut last: HashMap<&str, u64> = HashMap::new();
    for record in facts.records {
        if let Some((of, count)) = count(&record.what)
            && **of == *group.group
        {
            last.insert(&record.who, count);
        }
    }
    last.values().sum()
}

pub(super) fn dead<'a>(facts: &'a Facts<'_>, group: &'a GroupExpectation) -> impl Iterator<Item = u64> + 'a {
    facts.records.iter().filter_map(|record| match &record.what {
        What::DeadLettered { group: of, id, .. } if **of == *group.group => *id,
        _ => None,
    })
}

fn check_watermarks(facts: &Facts<'_>, group: &GroupExpectation, dead: &BTreeSet<u64>, report: &mut Report) {
    // When each position of the group was finished first.
    let mut finished: HashMap<(&str, u32, Position), u64> = HashMap::new();
    for run in facts.runs_of(&group.group).filter(|run| run.handled()) {
        let at = finished.entry((&run.start.topic, run.start.partition, run.start.position)).or_insert(u64::MAX);
        *at = run.to.min(*at);
    }
    let watermarks = facts.records.iter().filter_map(|record| match &record.what {
        What::Watermark { group: of, topic, partition, through: Some(through) } if **of == *group.group => {
            Some((record.at, topic, *partition, *through))
        }
        _ => None,
    });
    for (at, topic, partition, through) in watermarks {
        let passed = facts.confirmed().filter_map(|(id, message)| match message.outcome {
            super::facts::Answer::Confirmed { partition: of, position: Some(position), .. }
                if message.topic == topic
                    && of == partition
                    && position <= through
                    && !dead.contains(&id)
                    && group.only.as_ref().is_none_or(|only| only.contains(&id)) =>
            {
                Some((id, position))
            }
            _ => None,
        });
        let early: Vec<_> = passed
            .filter(|(_, position)| finished.get(&(topic, partition, *position)).is_none_or(|finished| *finished > at))
            .collect();
        if early.len() as u64 > group.skipped + group.lost {
            for (id, position) in early {
                report.violate(
                    Rule::SettledEarly,
                    format!(
                        "{topic}/{partition} was settled through {through}; message {id} at {position} was unfinished"
                    ),
                );
            }
        }
    }
}
