//! Rules 1, 2 and the first half of 4: nothing lost, no phantoms, nothing unfinished settled.

use messaging::Position;
use messaging_conformance::{
    checker::Rule,
    history::{Start, What},
};

use crate::story::{Story, group};

fn two_published() -> Story {
    Story::new().publish(1, "a").publish(2, "b")
}

#[test]
fn every_confirmed_message_reaches_the_group() {
    two_published().handle("m", 1).handle("m", 2).passes(group());
    let report = two_published().handle("m", 1).fails(group(), Rule::Lost);
    assert!(report.to_string().contains("message 2"), "{report}");
    // Started is not handled.
    two_published().handle("m", 1).start("m", 2).fails(group(), Rule::Lost);
    two_published().handle("m", 1).passes(group().incomplete());
    two_published().handle("m", 1).passes(group().only([1]));
}

#[test]
fn what_was_unknown_or_rejected_is_not_owed() {
    let rejected = || What::Rejected { id: 1, reason: "too large".into() };
    Story::new().attempt("p", 1, "a").then("p", rejected()).passes(group());
    Story::new().attempt("p", 1, "a").then("p", What::Unknown { id: 1, reason: "cut".into() }).passes(group());
    Story::new().attempt("p", 1, "a").then("p", rejected()).handle("m", 1).fails(group(), Rule::Phantom);
}

#[test]
fn skipped_and_lost_are_reported_exactly() {
    let skipped = |count| What::Skipped { group: "g".into(), count };
    let lost = |count| What::ReportedLost { group: "g".into(), count };
    two_published().handle("m", 1).then("m", skipped(1)).passes(group().skipped(1));
    two_published().handle("m", 1).then("m", lost(1)).passes(group().lost(1));
    two_published().handle("m", 1).then("m", lost(2)).fails(group().lost(1), Rule::Lost);
    two_published().handle("m", 1).fails(group().lost(1), Rule::Lost);
    two_published().handle("m", 1).handle("m", 2).then("m", skipped(1)).fails(group(), Rule::Lost);
    // Counters grow: of each member the last report counts, and members add up.
    let twice = two_published().then("m", lost(1)).then("m", lost(1)).then("n", lost(1));
    twice.passes(group().lost(2));
}

#[test]
fn phantoms_are_found() {
    let altered = |alter: fn(&mut Start)| {
        let mut story = Story::new().publish(1, "a");
        let mut start = story.started("m", 1, 1);
        alter(&mut start);
        story.then("m", What::Started(start)).end("m", 1, messaging_conformance::history::End::Handled)
    };
    altered(|_| {}).passes(group());
    altered(|start| start.hash += 1).fails(group(), Rule::Phantom);
    altered(|start| start.key = None).fails(group(), Rule::Phantom);
    altered(|start| start.topic = "other".into()).fails(group(), Rule::Phantom);
    Story::new().handle("m", 9).fails(group(), Rule::Phantom);
    altered(|start| start.position = Position::new(7)).fails(group(), Rule::Stored);
}

#[test]
fn nothing_unfinished_is_settled() {
    let settled = |through| What::Watermark {
        group: "g".into(),
        topic: "t".into(),
        partition: 0,
        through: Some(Position::new(through)),
    };
    two_published().handle("m", 1).then("test", settled(1)).handle("m", 2).passes(group());
    two_published().handle("m", 1).then("test", settled(2)).handle("m", 2).fails(group(), Rule::SettledEarly);
    // Finished later does not help.
    let late = two_published().start("m", 1).handle("m", 2).then("test", settled(2));
    late.end("m", 1, messaging_conformance::history::End::Handled).fails(group(), Rule::SettledEarly);
    // A dead letter is an end as well.
    let dead = two_published().handle("m", 1).fail("m", 2, 1).then("test", settled(2)).dead(2, 1);
    dead.passes(group().poison([(2, Some(1))]));
}
