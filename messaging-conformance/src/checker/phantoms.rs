//! What is handled was published, with this payload and this key; what was refused is not stored; nothing is stored
//! twice.

use std::collections::HashMap;

use messaging::Position;

use super::{
    Report, Rule,
    facts::{Answer, Facts},
};

pub(super) fn check(facts: &Facts<'_>, report: &mut Report) {
    let mut places: HashMap<u64, (u32, Position)> = HashMap::new();
    for (id, message) in facts.confirmed() {
        if let Answer::Confirmed { partition, position: Some(position), .. } = message.outcome {
            places.insert(id, (partition, position));
        }
    }
    for run in &facts.runs {
        let Some(id) = run.start.id else { continue };
        let Some(message) = facts.messages.get(&id) else {
            report.violate(Rule::Phantom, format!("nobody published {}", run.describe()));
            continue;
        };
        if message.hash != run.start.hash || message.key != run.start.key.as_ref() {
            report.violate(Rule::Phantom, format!("payload or key is not what was published: {}", run.describe()));
        }
        if *message.topic != run.start.topic {
            report.violate(Rule::Phantom, format!("published to {}: {}", message.topic, run.describe()));
        }
        if message.outcome == Answer::Rejected {
            report.violate(Rule::Phantom, format!("was rejected, and is there: {}", run.describe()));
        }
        if !facts.lasting_positions {
            continue;
        }
        let place = (run.start.partition, run.start.position);
        let first = *places.entry(id).or_insert(place);
        if first != place {
            let (partition, position) = first;
            report.violate(Rule::Stored, format!("stored at {partition}@{position} too: {}", run.describe()));
        }
    }
}
