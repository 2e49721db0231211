//! Rule 7: the dead letters are exactly the poisoned messages.

use messaging_conformance::{checker::Rule, history::What};

use crate::story::{Story, group, hash};

fn poisoned() -> Story {
    Story::new().publish(1, "a").publish(2, "b").handle("m", 2).fail("m", 1, 1).fail("m", 1, 2)
}

#[test]
fn dead_letters_are_exactly_what_was_poisoned() {
    let poison = || group().poison([(1, Some(2))]);
    poisoned().dead(1, 2).passes(poison());
    poisoned().dead(1, 2).passes(group().poison([(1, None)]));
    let report = poisoned().check(poison());
    assert_eq!(report.rules(), [Rule::Lost, Rule::DeadLetters], "{report}");
    poisoned().dead(1, 3).fails(poison(), Rule::DeadLetters);
    poisoned().dead(1, 2).dead(1, 2).fails(poison(), Rule::DeadLetters);
    poisoned().dead(1, 2).dead(2, 1).fails(poison(), Rule::DeadLetters);
}

#[test]
fn dead_letters_keep_their_bytes() {
    let letter = |id, hash| What::DeadLettered { group: "g".into(), id, hash, attempts: 2 };
    let poison = || group().poison([(1, Some(2))]);
    poisoned().then("test", letter(Some(1), hash(1))).passes(poison());
    poisoned().then("test", letter(Some(1), hash(2))).fails(poison(), Rule::DeadLetters);
    let report = poisoned().then("test", letter(None, hash(1))).check(poison());
    assert!(report.rules().contains(&Rule::DeadLetters), "{report}");
}

#[test]
fn another_groups_dead_letters_do_not_count() {
    let others = What::DeadLettered { group: "h".into(), id: Some(1), hash: hash(1), attempts: 2 };
    let report = poisoned().then("test", others).check(group().poison([(1, Some(2))]));
    assert_eq!(report.rules(), [Rule::Lost, Rule::DeadLetters], "{report}");
}

#[test]
fn a_dead_letter_may_stand_twice_if_its_owner_was_lost() {
    let killed = poisoned().dead(1, 2).then("m", What::Killed).dead(1, 2);
    killed.passes(group().poison([(1, Some(2))]));
}
