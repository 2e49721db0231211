//! The second half of rule 4: what was handled does not come back without a cause.

use messaging_conformance::{
    checker::{Repeats, Rule},
    history::What,
};

use crate::story::{SECOND, Story, group};

fn handled() -> Story {
    Story::new().publish(1, "a").handle("m", 1)
}

#[test]
fn nothing_comes_back_after_a_graceful_stop() {
    handled().then("m", What::Stopped).passes(group());
    handled().then("m", What::Stopped).owner("n", 2).handle("n", 1).fails(group(), Rule::Repeated);
}

#[test]
fn nothing_comes_back_from_a_live_owner() {
    handled().owner("n", 2).handle("n", 1).fails(group(), Rule::Repeated);
    handled().handle("m", 1).fails(group(), Rule::Repeated);
}

#[test]
fn a_killed_owners_work_may_come_back_and_is_counted() {
    let killed = handled().then("m", What::Killed).owner("n", 2).handle("n", 1);
    assert_eq!(killed.passes(group()).figures.repeated, 1);
    killed.passes(group().repeats(Repeats::AtMost(1)));
    killed.fails(group().repeats(Repeats::AtMost(0)), Rule::Repeated);
    killed.fails(group().repeats(Repeats::Never), Rule::Repeated);
    // Another member's death is no cause.
    handled().then("other", What::Killed).owner("n", 2).handle("n", 1).fails(group(), Rule::Repeated);
}

#[test]
fn a_broker_that_was_harmed_excuses_for_a_while() {
    let harmed = || handled().then("test", What::Harmed { how: "restart".into() });
    harmed().owner("n", 2).handle("n", 1).passes(group());
    let late = handled_after_healing(11 * SECOND);
    late.owner("n", 2).handle("n", 1).fails(group(), Rule::Repeated);
    let soon = handled_after_healing(9 * SECOND);
    soon.owner("n", 2).handle("n", 1).passes(group());
}

fn handled_after_healing(time: u64) -> Story {
    let healed = Story::new().then("test", What::Harmed { how: "reset".into() }).then("test", What::Healed);
    healed.after(time).publish(1, "a").handle("m", 1)
}
