//! Backends with one fault each, over the in-process bus: the suite must find each of them out, by exactly the tests
//! whose promise it breaks.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod consuming;
mod mutant;
mod publishing;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use messaging_conformance::{Promise, promises, run};
use mutant::{Mutants, Mutation};

/// How many tests run at once.
const AT_ONCE: usize = 6;

/// The tests that fail on a bus with this fault, or with none.
fn failing(mutation: Option<Mutation>) -> BTreeSet<&'static str> {
    // One suite at a time: its tests watch the clock.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let factory = Arc::new(Mutants { mutation });
    // One schedule: which tests see a fault depends on it, and the lists below are of this one.
    let seed = 7;
    let todo: Vec<Promise> = promises().into_iter().filter(|promise| mutant::applies(promise.needs)).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(promise) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (result, _) = run(promise, factory.clone(), seed);
                    if let Err(failure) = result {
                        println!("{}: {failure}", promise.name);
                        failed.lock().unwrap().insert(promise.name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// A fault is found out by the tests that are named for it, and by no other.
#[track_caller]
fn found_out_by(mutation: Mutation, tests: &[&'static str]) {
    found_out_by_these_or(mutation, tests, &[]);
}

/// The same; some more may see it or not, as it happens.
#[track_caller]
fn found_out_by_these_or(mutation: Mutation, tests: &[&'static str], perhaps: &[&'static str]) {
    let failed = failing(Some(mutation));
    let missed: Vec<_> = tests.iter().filter(|test| !failed.contains(*test)).collect();
    let others: Vec<_> = failed.iter().filter(|test| !tests.contains(test) && !perhaps.contains(test)).collect();
    assert!(missed.is_empty() && others.is_empty(), "{mutation:?} is not seen by {missed:?}; it fails {others:?} too");
}

#[test]
fn the_bus_without_a_fault_passes() {
    assert_eq!(failing(None), BTreeSet::new());
}

#[test]
fn a_bus_that_loses_one_is_found_out() {
    found_out_by(
        Mutation::LosesOne,
        &[
            "a_hand_over_with_a_parked_lane_repeats_nothing",
            "a_partition_does_not_run_far_ahead_of_its_oldest",
            "a_stop_with_a_parked_lane_repeats_nothing",
            "all_members_stop_at_once",
            "keys_land_where_kafkas_java_client_puts_them",
            "nothing_is_stored_twice",
            "one_publishers_messages_stand_in_its_order",
            "what_is_in_flight_is_bounded_by_number",
        ],
    );
}

#[test]
fn a_bus_that_swaps_two_of_a_key_is_found_out() {
    found_out_by(
        Mutation::SwapsTwo,
        &[
            "a_hand_over_with_a_parked_lane_repeats_nothing",
            "a_partition_does_not_run_far_ahead_of_its_oldest",
            "a_stop_with_a_parked_lane_repeats_nothing",
            "all_members_stop_at_once",
            "one_publishers_messages_stand_in_its_order",
            "what_is_in_flight_is_bounded_by_number",
        ],
    );
}

#[test]
fn a_bus_that_settles_early_is_found_out() {
    found_out_by_these_or(
        Mutation::SettlesEarly,
        // A message waits while many others go on.
        &[
            "a_dead_letter_holds_its_key_if_asked",
            "a_dead_letter_that_is_refused_for_good_makes_its_partition_stuck",
            "a_hand_over_with_a_parked_lane_repeats_nothing",
            "a_stop_drops_what_outlasts_its_drain",
            "a_stop_while_dead_letters_are_refused_repeats_nothing",
            "a_stop_with_a_parked_lane_repeats_nothing",
            "dead_letters_wait_until_they_get_through",
            "hanging_handlers_time_out",
            "nothing_unfinished_is_settled_whenever_a_member_dies",
        ],
        // Whether many others go on before it is retried.
        &["panics_are_failures_like_others", "poison_is_dead_lettered_after_the_exact_attempts"],
    );
}

#[test]
fn a_bus_that_confirms_early_is_found_out() {
    found_out_by_these_or(
        Mutation::ConfirmsEarly,
        &[
            "a_killed_members_work_goes_on",
            "a_missing_topic_is_made_or_named",
            "a_position_is_where_a_group_starts_or_is_refused",
            "a_publisher_outlives_the_runtime_that_used_it_first",
            "confirmed_messages_are_readable_at_their_positions",
            "every_message_of_a_mixed_batch_has_its_outcome",
            "keys_land_where_kafkas_java_client_puts_them",
            "latest_is_what_is_published_from_then_on",
            "looking_settles_nothing",
            "nothing_is_stored_twice",
            "what_follows_a_confirm_stands_behind_it",
        ],
        // Whether the group is there before what it should miss.
        &["a_group_that_has_read_nothing_loses_nothing"],
    );
}

#[test]
fn a_bus_whose_owners_ignore_a_revocation_is_found_out() {
    found_out_by_these_or(
        Mutation::IgnoresRevoke,
        &[
            "members_are_replaced_one_by_one_under_load",
            "members_join_and_leave_under_load",
            "members_of_unequal_size_come_and_go",
        ],
        // Whether a message is handled and not settled just when its partition is taken away.
        &["a_hand_over_with_a_parked_lane_repeats_nothing", "nothing_unfinished_is_settled_whenever_a_member_dies"],
    );
}

#[test]
fn a_bus_whose_owners_start_after_their_validity_is_found_out() {
    found_out_by(Mutation::StartsLate, &["a_busy_frozen_owner_starts_nothing_more"]);
}

#[test]
fn a_bus_that_doubles_is_found_out() {
    found_out_by(
        Mutation::Doubles,
        &[
            "a_hand_over_with_a_parked_lane_repeats_nothing",
            "a_partition_does_not_run_far_ahead_of_its_oldest",
            "a_stop_with_a_parked_lane_repeats_nothing",
            "all_members_stop_at_once",
            "keys_land_where_kafkas_java_client_puts_them",
            "nothing_is_stored_twice",
            "one_publishers_messages_stand_in_its_order",
            "what_is_in_flight_is_bounded_by_number",
        ],
    );
}

#[test]
fn a_bus_that_drops_the_dead_letter_is_found_out() {
    found_out_by(
        Mutation::DropsDeadLetter,
        &[
            "a_dead_letter_holds_its_key_if_asked",
            "a_dead_letter_is_the_message_byte_for_byte",
            "a_dead_letter_that_is_refused_for_good_makes_its_partition_stuck",
            "a_head_that_fails_once_the_span_is_full_is_dead_lettered",
            "a_parked_head_that_fills_half_the_span_is_dead_lettered",
            "a_publish_until_settled_is_answered_by_the_groups_or_refused",
            "a_stop_while_dead_letters_are_refused_repeats_nothing",
            "broken_structured_events_are_dead_lettered_byte_for_byte",
            "dead_letters_belong_to_one_group",
            "dead_letters_wait_until_they_get_through",
            "hanging_handlers_time_out",
            "panics_are_failures_like_others",
            "permanent_errors_are_dead_lettered_at_once",
            "poison_is_dead_lettered_after_the_exact_attempts",
            "the_dead_letter_of_the_largest_message_fits",
            "undecodable_messages_are_dead_lettered_at_once",
            "unhandled_events_are_dead_lettered_if_asked",
        ],
    );
}
