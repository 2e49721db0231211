//! The dead letters are exactly the poisoned messages, byte for byte, after the exact number of attempts.

use std::collections::BTreeMap;

use super::{GroupExpectation, Report, Rule, facts::Facts};
use crate::history::What;

pub(super) fn check(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    let mut letters: BTreeMap<u64, usize> = BTreeMap::new();
    for record in facts.records {
        let What::DeadLettered { group: of, id, hash, attempts } = &record.what else { continue };
        if **of != *group.group {
            continue;
        }
        let Some((id, message)) = id.and_then(|id| Some((id, facts.messages.get(&id)?))) else {
            report.violate(Rule::DeadLetters, format!("a dead letter of {} of what nobody published", group.group));
            continue;
        };
        *letters.entry(id).or_default() += 1;
        if message.hash != *hash {
            report.violate(Rule::DeadLetters, format!("the dead letter of message {id} has other bytes"));
        }
        match group.poison.get(&id) {
            None => report.violate(Rule::DeadLetters, format!("message {id} is dead-lettered and was not poisoned")),
            Some(Some(exact)) if exact != attempts => report.violate(
                Rule::DeadLetters,
                format!("message {id} is dead-lettered after {attempts} attempts; it should be after {exact}"),
            ),
            Some(_) => {}
        }
    }
    let shaken = !facts.blows.is_empty() || facts.was_harmed(0, facts.end);
    for (id, count) in letters.iter().filter(|(_, count)| **count > 1) {
        if !shaken {
            report.violate(Rule::DeadLetters, format!("message {id} has {count} dead letters"));
        }
    }
    if group.complete {
        for id in group.poison.keys().filter(|id| !letters.contains_key(id)) {
            report.violate(Rule::DeadLetters, format!("message {id} was poisoned and has no dead letter"));
        }
    }
}
