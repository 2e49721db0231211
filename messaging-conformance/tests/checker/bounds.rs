//! Rules 8 and 9: bounds, late starts, epochs, deadlines, residue.

use std::time::Duration;

use messaging_conformance::{
    checker::{Figures, Rule},
    history::{End, What},
};

use crate::story::{SECOND, Story, group};

#[test]
fn handlers_at_once_are_bounded() {
    let both = Story::new().publish(1, "a").publish(2, "b").start("m", 1).start("m", 2);
    let both = both.end("m", 1, End::Handled).end("m", 2, End::Handled);
    both.passes(group().concurrency(2));
    both.fails(group().concurrency(1), Rule::Bounded);
}

#[test]
fn a_lost_owner_starts_nothing_more() {
    let lost = |struck: &[What]| {
        let mut story = Story::new().publish(1, "a").publish(2, "b").publish(3, "c");
        story = story.owner("m", 1).handle("m", 1);
        for what in struck {
            story = story.then("m", what.clone());
        }
        story.after(SECOND).owner("n", 2).handle("n", 2).handle("m", 3)
    };
    // One per slot had passed the check when the owner froze.
    let report = lost(&[What::Frozen, What::Thawed]).passes(group().concurrency(1));
    assert_eq!(report.figures.late_starts, 1);
    lost(&[]).fails(group().concurrency(1), Rule::Late);
    let more = lost(&[What::Frozen, What::Thawed]).publish(4, "d").handle("m", 4);
    more.fails(group().concurrency(1), Rule::Late);
}

#[test]
fn a_frozen_owner_starts_nothing_once_its_assignment_has_lapsed() {
    let thawed_after = |time, epoch| {
        let story = Story::new().publish(1, "a").publish(2, "b").publish(3, "c").owner("m", 1).handle("m", 1);
        let story = story.then("m", What::Frozen).after(time).then("m", What::Thawed);
        story.owner("m", epoch).handle("m", 2).handle("m", 3)
    };
    let lapses = || group().strict_epochs(true).lapse(Duration::from_secs(6));
    // Nobody else has begun anything. One for each slot may have passed the check before the freeze.
    thawed_after(7 * SECOND, 1).fails(lapses().concurrency(1), Rule::Late);
    assert_eq!(thawed_after(7 * SECOND, 1).passes(lapses().concurrency(2)).figures.late_starts, 2);
    assert_eq!(thawed_after(7 * SECOND, 2).passes(lapses()).figures.late_starts, 0);
    assert_eq!(thawed_after(5 * SECOND, 1).passes(lapses()).figures.late_starts, 0);
}

#[test]
fn recoveries_are_told_by_their_ranks() {
    let recoveries = (1..=200).map(Duration::from_secs).rev().collect();
    let figures = Figures { recoveries, ..Figures::default() };
    assert!(
        figures.to_string().ends_with("200 recoveries, p50 100.0 s, p99 198.0 s, the longest 200.0 s"),
        "{figures}"
    );
}

#[test]
fn epochs_grow_from_owner_to_owner_where_they_must() {
    let owners = |epoch| {
        let first = Story::new().publish(1, "a").publish(2, "b").owner("m", 1).handle("m", 1);
        first.owner("n", epoch).handle("n", 2)
    };
    owners(2).passes(group().strict_epochs(true));
    owners(1).passes(group());
    owners(1).fails(group().strict_epochs(true), Rule::Epochs);
    owners(0).fails(group(), Rule::Late);
}

#[test]
fn what_is_overdue_is_a_violation() {
    Story::new().then("test", What::Overdue { what: "the stop".into() }).fails(group(), Rule::Overdue);
}

#[test]
fn nothing_is_left_at_the_end() {
    let left = |lag| What::Residue { group: "g".into(), topic: "t".into(), lag };
    Story::new().then("test", left(3)).then("test", left(0)).passes(group().drained());
    Story::new().then("test", left(1)).fails(group().drained(), Rule::Residue);
    Story::new().fails(group().drained(), Rule::Residue);
}
