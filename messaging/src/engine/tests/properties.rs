//! The property: under any schedule the engine does what the model says, and the history keeps the contract. And that
//! it would not hold for an engine with a bug.

use std::cell::Cell;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use super::{
    schedule::schedules,
    simulation::{Judge, run},
};
use crate::engine::seeded::Bug;

/// 2,000 cases, unless `PROPTEST_CASES` asks for others.
fn config() -> Config {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = Config { failure_persistence: None, ..Config::default() };
    if asked { default } else { Config { cases: 2000, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn keeps_the_contract_under_any_schedule(schedule in schedules()) {
        run(&schedule, Judge::HistoryAndModel);
    }
}

/// How the property fails with this bug, within 10,000 cases.
fn found(bug: Bug, judge: Judge) -> String {
    let config = Config { cases: 10_000, max_shrink_iters: 0, ..config() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let case = Cell::new(0);
    let outcome = bug.during(|| {
        runner.run(&schedules(), |schedule| {
            case.set(case.get() + 1);
            run(&schedule, judge);
            Ok(())
        })
    });
    match outcome {
        Err(TestError::Fail(reason, _)) => {
            println!("{bug:?} is found at case {}: {reason}", case.get());
            reason.to_string()
        }
        other => panic!("{bug:?} is not found in {} cases: {other:?}", case.get()),
    }
}

/// A test for each bug: it is found, and told for what it is.
macro_rules! finds {
    ($($name:ident: $bug:ident by $judge:ident, $($says:literal)|+;)*) => {$(
        #[test]
        fn $name() {
            let reason = found(Bug::$bug, Judge::$judge);
            assert!([$($says),+].iter().any(|says| reason.contains(says)), "{reason}");
        }
    )*};
}

finds! {
    finds_early_settling: SettlesEarly by History, "settled before it was finished";
    finds_settling_for_another_owner: SettlesWhenLost by History, "is no partition of ours";
    finds_a_lost_delivery: LosesOne by History, "never comes to its end";
    finds_two_of_a_lane_swapped: SwapsTwo by History, "out of order in its lane";
    finds_two_of_a_lane_out_at_once: OverlapsLane by History, "two of a lane are out";
    finds_one_without_a_key_out_twice: OverlapsKeyless by History, "two of a lane are out";
    finds_an_ignored_revocation: IgnoresRevoke by History, "Started" | "never comes to its end";
    finds_a_start_after_the_validity: StartsStale by History, "valid until";
    finds_a_forgotten_parked_lane: ForgetsParked by History, "never comes to its end";
    finds_an_exceeded_bound: ExceedsSpan by History, "more than the span";
    finds_a_release_at_the_wrong_time: DrainsEarly by History, "released";
    finds_a_second_waking: WakesTwice by HistoryAndModel, "wants a look";
    finds_an_overlooked_crowd: OverlooksCrowd by HistoryAndModel, "a head crowds, and no look is wanted";
    finds_a_handler_that_is_not_cancelled: NeverCancels by HistoryAndModel, "futures to be dropped";
    finds_a_younger_one_started_first: StartsYounger by HistoryAndModel, "the oldest that is ready";
}
