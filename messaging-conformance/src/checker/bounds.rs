//! Handlers at once, late starts, epochs, deadlines, what is left at the end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    GroupExpectation, Report, Rule,
    facts::{Blow, Facts, Run},
};
use crate::history::What;

pub(super) fn check_overdue(facts: &Facts<'_>, report: &mut Report) {
    for record in facts.records {
        if let What::Overdue { what } = &record.what {
            report.violate(Rule::Overdue, what);
        }
    }
}

pub(super) fn check_group(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    if let Some(most) = group.concurrency {
        check_concurrency(facts, group, most, report);
    }
    check_late_starts(facts, group, report);
    check_epochs(facts, group, report);
    check_residue(facts, group, report);
    measure_recoveries(facts, group, report);
}

fn check_concurrency(facts: &Facts<'_>, group: &GroupExpectation, most: usize, report: &mut Report) {
    let mut open: HashMap<&str, Vec<&Run<'_>>> = HashMap::new();
    for run in facts.runs_of(&group.group) {
        let open = open.entry(run.who).or_default();
        open.retain(|other| other.to > run.from);
        open.push(run);
        if open.len() == most + 1 {
            report.violate(Rule::Bounded, format!("{} ran more than {most} handlers: {}", run.who, run.describe()));
        }
    }
}

/// A frozen owner may start, once it goes on, what had passed the check of its validity: one per slot.
fn check_late_starts(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    let mut late: HashMap<&str, Vec<&Run<'_>>> = HashMap::new();
    let outlived = Outlived::gather(facts, group);
    for run in facts.runs_of(&group.group).filter(|run| run.stale || outlived.includes(run)) {
        report.figures.late_starts += 1;
        late.entry(run.who).or_default().push(run);
    }
    for (who, runs) in late {
        let frozen = facts.was_struck_before(who, runs[0].from);
        let cut_off = facts.was_harmed(runs[0].from, runs[0].from);
        let most = if frozen || cut_off { group.concurrency.unwrap_or(1) } else { 0 };
        if runs.len() > most {
            for run in runs {
                report.violate(Rule::Late, format!("its assignment had lapsed: {}", run.describe()));
            }
        }
    }
}

/// The assignments that members had before they were frozen for longer than these last, and when each of them went on.
struct Outlived<'a>(HashMap<Assignment<'a>, u64>);

/// Whose, the topic, the partition, the epoch.
type Assignment<'a> = (&'a str, &'a str, u32, u64);

impl<'a> Outlived<'a> {
    fn gather(facts: &Facts<'a>, group: &'a GroupExpectation) -> Self {
        let Some(lapse) = group.lapse.filter(|_| group.strict_epochs) else { return Self(HashMap::new()) };
        let mut outlived = HashMap::new();
        for blow in facts.blows.iter().filter(|blow| blow.lasted() >= lapse) {
            let before = facts.runs_of(&group.group).filter(|run| run.who == blow.victim && run.from <= blow.from);
            for run in before {
                outlived.entry(Self::assignment(run)).or_insert(blow.to);
            }
        }
        Self(outlived)
    }

    fn assignment(run: &Run<'a>) -> Assignment<'a> {
        (run.who, &run.start.topic, run.start.partition, run.start.epoch)
    }

    fn includes(&self, run: &Run<'a>) -> bool {
        self.0.get(&Self::assignment(run)).is_some_and(|thawed| run.from > *thawed)
    }
}

/// What is not late has no smaller epoch than what was before, by definition; here, whether two owners share one.
fn check_epochs(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    if !group.strict_epochs {
        return;
    }
    let mut owners: HashMap<(&str, u32, u64), &str> = HashMap::new();
    for run in facts.runs_of(&group.group) {
        let owner = owners.entry((&run.start.topic, run.start.partition, run.start.epoch)).or_insert(run.who);
        if *owner != &**run.who {
            report.violate(Rule::Epochs, format!("{owner} had the same epoch: {}", run.describe()));
        }
    }
}

fn check_residue(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    if !group.drained {
        return;
    }
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for record in facts.records {
        if let What::Residue { group: of, topic, lag } = &record.what
            && *of == group.group
        {
            last.insert(topic, *lag);
        }
    }
    for topic in &group.topics {
        match last.get(&**topic) {
            Some(0) => {}
            Some(lag) => report.violate(Rule::Residue, format!("{lag} of {topic} are left for {}", group.group)),
            None => report.violate(Rule::Residue, format!("nobody looked what of {topic} is left for {}", group.group)),
        }
    }
}

/// How long after a blow another member handled something of the victim's partitions.
fn measure_recoveries(facts: &Facts<'_>, group: &GroupExpectation, report: &mut Report) {
    for Blow { from: at, victim, .. } in &facts.blows {
        let mut owned: HashMap<(&str, u32), bool> = HashMap::new();
        for run in facts.runs_of(&group.group).filter(|run| run.from <= *at) {
            owned.insert((&run.start.topic, run.start.partition), run.who == *victim);
        }
        let mut first: HashMap<(&str, u32), u64> = HashMap::new();
        for run in facts.runs_of(&group.group).filter(|run| run.to > *at && run.handled() && run.who != *victim) {
            let place = (&*run.start.topic, run.start.partition);
            if owned.get(&place) == Some(&true) {
                let end = first.entry(place).or_insert(run.to);
                *end = run.to.min(*end);
            }
        }
        if let Some(last) = first.values().max() {
            report.figures.recoveries.push(Duration::from_nanos(last - at));
        }
    }
}
