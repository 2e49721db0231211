//! Backends with one fault each, over the in-process bus: the suite must find each of them out, by exactly the tests
//! whose promise it breaks.

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

use messaging_conformance::{Promise, SEED, promises, run};
use mutant::{Mutants, Mutation};

/// How many tests run at once.
const AT_ONCE: usize = 6;

/// The tests that fail on a bus with this fault, or with none.
fn failing(mutation: Option<Mutation>) -> BTreeSet<&'static str> {
    // One suite at a time: its tests watch the clock.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let factory = Arc::new(Mutants { mutation });
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let todo: Vec<Promise> = promises().into_iter().filter(|promise| mutant::applies(&promise.needs)).collect();
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

#[track_caller]
fn found_out_by(mutation: Mutation, tests: &[&'static str]) {
    let (failed, expected) = (failing(Some(mutation)), tests.iter().copied().collect::<BTreeSet<_>>());
    let missed: Vec<_> = expected.difference(&failed).collect();
    let wrongly: Vec<_> = failed.difference(&expected).collect();
    assert!(missed.is_empty() && wrongly.is_empty(), "{mutation:?} is missed by {missed:?}, and fails {wrongly:?} too");
}

#[test]
fn the_bus_without_a_fault_passes() {
    assert_eq!(failing(None), BTreeSet::new());
}

#[test]
fn a_bus_that_loses_one_is_found_out() {
    found_out_by(Mutation::LosesOne, &[]);
}

#[test]
fn a_bus_that_swaps_two_of_a_key_is_found_out() {
    found_out_by(Mutation::SwapsTwo, &[]);
}

#[test]
fn a_bus_that_settles_early_is_found_out() {
    found_out_by(Mutation::SettlesEarly, &[]);
}

#[test]
fn a_bus_that_confirms_early_is_found_out() {
    found_out_by(Mutation::ConfirmsEarly, &[]);
}

#[test]
fn a_bus_whose_owners_ignore_a_revocation_is_found_out() {
    found_out_by(Mutation::IgnoresRevoke, &[]);
}

#[test]
fn a_bus_whose_owners_start_after_their_validity_is_found_out() {
    found_out_by(Mutation::StartsLate, &[]);
}

#[test]
fn a_bus_that_doubles_is_found_out() {
    found_out_by(Mutation::Doubles, &[]);
}

#[test]
fn a_bus_that_drops_the_dead_letter_is_found_out() {
    found_out_by(Mutation::DropsDeadLetter, &[]);
}
