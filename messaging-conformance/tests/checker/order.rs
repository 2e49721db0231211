//! Rule 3: order in the log, order of first starts, no overlap, contiguous replay.

use messaging_conformance::{
    checker::Rule,
    history::{End, What},
};

use crate::story::{SECOND, Story, group};

fn three_of_a_lane() -> Story {
    Story::new().publish(1, "a").publish(2, "a").publish(3, "a")
}

#[test]
fn one_publishers_messages_stand_in_its_order() {
    let both = || Story::new().attempt("p", 1, "a").attempt("p", 2, "a");
    both().confirm("p", 1, 1).confirm("p", 2, 2).passes(group().incomplete());
    both().confirm("p", 1, 2).confirm("p", 2, 1).fails(group().incomplete(), Rule::Stored);
    // Keys have no order among each other.
    let keys = Story::new().attempt("p", 1, "a").attempt("p", 2, "b");
    keys.confirm("p", 1, 2).confirm("p", 2, 1).passes(group().incomplete());
}

#[test]
fn what_is_published_after_a_confirm_stands_behind() {
    let second = |at| Story::new().attempt("p", 1, "a").confirm("p", 1, 5).attempt("q", 2, "a").confirm("q", 2, at);
    second(6).passes(group().incomplete());
    second(4).fails(group().incomplete(), Rule::Stored);
    // At the same time, two publishers may stand either way.
    let racing = Story::new().attempt("p", 1, "a").attempt("q", 2, "a").confirm("p", 1, 5).confirm("q", 2, 4);
    racing.passes(group().incomplete());
}

#[test]
fn an_unknown_outcome_ends_the_promise() {
    let unknown = |id| What::Unknown { id, reason: "cut".into() };
    let cut = Story::new().attempt("p", 1, "a").attempt("p", 2, "a").attempt("p", 3, "a");
    cut.confirm("p", 1, 3).then("p", unknown(2)).confirm("p", 3, 2).passes(group().incomplete());
}

#[test]
fn first_starts_are_in_order() {
    three_of_a_lane().handle("m", 1).handle("m", 2).handle("m", 3).passes(group());
    three_of_a_lane().handle("m", 1).handle("m", 3).handle("m", 2).fails(group(), Rule::Order);
    // Of different lanes they need not be.
    Story::new().publish(1, "a").publish(2, "b").handle("m", 2).handle("m", 1).passes(group());
}

#[test]
fn a_later_message_waits_for_retries_of_an_earlier_one() {
    let failed = || three_of_a_lane().fail("m", 1, 1);
    failed().fail("m", 1, 2).handle("m", 1).handle("m", 2).handle("m", 3).passes(group());
    failed().handle("m", 2).handle("m", 1).handle("m", 3).fails(group(), Rule::Replay);
    let dead = failed().fail("m", 1, 2).handle("m", 2).handle("m", 3).dead(1, 2);
    dead.passes(group().poison([(1, Some(2))]));
}

#[test]
fn handlers_of_a_lane_do_not_overlap() {
    let overlap = |second| {
        let begun = Story::new().publish(1, "a").publish(2, second).start("m", 1).start("n", 2);
        begun.end("m", 1, End::Handled).end("n", 2, End::Handled)
    };
    overlap("b").passes(group());
    let report = overlap("a").check(group());
    assert!(report.rules().contains(&Rule::Overlap), "{report}");
    // The same message at two owners at once.
    let twice = Story::new().publish(1, "a").start("m", 1).start("n", 1);
    twice.end("m", 1, End::Handled).end("n", 1, End::Handled).fails(group(), Rule::Overlap);
}

#[test]
fn a_dropped_handler_has_ended() {
    let dropped = Story::new().publish(1, "a").start("m", 1).end("m", 1, End::Dropped);
    dropped.owner("n", 2).handle("n", 1).passes(group());
}

#[test]
fn what_a_killed_owner_ran_has_ended_with_it() {
    let killed = Story::new().publish(1, "a").start("m", 1).then("m", What::Killed).after(SECOND);
    let report = killed.owner("n", 2).handle("n", 1).passes(group());
    assert_eq!(report.figures.overlapped, 0);
    assert!(report.figures.recoveries[0].as_secs() == 1, "{report}");
}

#[test]
fn what_a_frozen_owner_ran_may_overlap_its_successors_and_is_counted() {
    let frozen = Story::new().publish(1, "a").start("m", 1).then("m", What::Frozen).after(SECOND);
    let woken = frozen.owner("n", 2).handle("n", 1).then("m", What::Thawed).end("m", 1, End::Dropped);
    assert_eq!(woken.passes(group()).figures.overlapped, 1);
}

#[test]
fn a_replay_begins_at_the_first_unfinished_message_and_leaves_none_out() {
    let killed = || three_of_a_lane().handle("m", 1).start("m", 2).then("m", What::Killed).owner("n", 2);
    killed().handle("n", 2).handle("n", 3).passes(group());
    // From further back is allowed: 1 was finished, and perhaps not settled.
    assert_eq!(killed().handle("n", 1).handle("n", 2).handle("n", 3).passes(group()).figures.repeated, 1);
    killed().handle("n", 3).handle("n", 2).fails(group(), Rule::Replay);
}
