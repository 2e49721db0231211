//! What was handled does not come back without a cause; how often it does is counted.

use std::collections::HashMap;

use super::{
    GroupExpectation, Repeats, Report, Rule,
    facts::{Facts, Identity, Run},
};

pub(super) fn check(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    // The first run that finished each message.
    let mut finished: HashMap<Identity<'_>, &Run<'_>> = HashMap::new();
    for run in facts.runs_of(&group.group).filter(|run| run.handled()) {
        report.figures.handled += 1;
        let first = finished.entry(facts.identity(run)).or_insert(run);
        if run.to < first.to {
            *first = run;
        }
    }
    let mut excused = 0;
    for run in facts.runs_of(&group.group) {
        let Some(first) = finished.get(&facts.identity(run)) else { continue };
        if run.from < first.to {
            continue;
        }
        report.figures.repeated += 1;
        // What a lost owner starts late, its successor may have handled already.
        let late = run.stale && facts.was_struck_before(run.who, run.from);
        let cause = late || facts.was_struck(first.who, first.from, run.from) || facts.was_harmed(first.from, run.from);
        if cause && group.repeats != Repeats::Never {
            excused += 1;
        } else {
            report.violate(Rule::Repeated, format!("{} had handled it: {}", first.who, run.describe()));
        }
    }
    if let Repeats::AtMost(most) = group.repeats
        && excused > most
    {
        report.violate(Rule::Repeated, format!("{excused} were handled again in group {}, {most} may be", group.group));
    }
}
