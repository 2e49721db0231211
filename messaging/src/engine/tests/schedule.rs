//! Random schedules: the logs there are, the bounds, and what happens in which order. They shrink.

use proptest::{collection::vec, prelude::*};

use crate::engine::Limits;

/// One run of the engine, from first assignment to stop.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) logs: Vec<LogPlan>,
    pub(super) limits: Limits,
    pub(super) hashing: Hashing,
    pub(super) settling: Settling,
    /// Whether assignments have a validity that must be renewed.
    pub(super) gated: bool,
    pub(super) steps: Vec<Step>,
}

/// A partition's log. What it holds follows from the seed, so that a case shrinks by length.
#[derive(Clone, Debug)]
pub(super) struct LogPlan {
    pub(super) topic: usize,
    pub(super) number: u32,
    pub(super) len: usize,
    pub(super) keys: u64,
    /// Out of four, how many have no key.
    pub(super) keyless: u64,
    pub(super) seed: u64,
}

/// How lanes are hashed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hashing {
    /// Each lane has a hash of its own.
    Distinct,
    /// Many share one, across partitions, and zero occurs: lanes may then wait for each other, and no more.
    Colliding,
}

/// What the broker keeps of a settlement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Settling {
    EachFinished,
    WatermarkOnly,
}

/// One thing that happens. Numbers choose among what there is, modulo how much there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The consumer hands over deliveries of one partition, within its credit.
    Fill {
        partition: usize,
        max: usize,
    },
    /// A delivery comes although the partition was revoked.
    Late {
        partition: usize,
    },
    /// A worker takes what may start.
    Take {
        max: usize,
    },
    /// A worker that asks no clock takes what may start.
    TakeWithoutGate {
        max: usize,
    },
    /// A start that a worker has taken and not begun goes back.
    GiveBack {
        which: usize,
    },
    /// A handler ends well.
    Succeed {
        which: usize,
    },
    /// A handler fails, and is to be tried again.
    Fail {
        which: usize,
        back_off: u64,
        counted: bool,
    },
    /// A handler has been in trouble for too long.
    GiveUp {
        which: usize,
        drain: u64,
    },
    /// Time passes, and a worker looks at the engine if it wants to be looked at.
    Pass {
        millis: u64,
    },
    /// The machine is suspended: only the clock of validity goes on.
    Suspend {
        millis: u64,
    },
    /// What is finished goes to the broker, what is drained is released.
    Settle,
    /// Some of the futures that are to be dropped are dropped.
    ServeCancels {
        most: usize,
    },
    Assign {
        partition: usize,
    },
    Renew {
        partition: usize,
        millis: u64,
    },
    Revoke {
        partition: usize,
        drain: u64,
    },
    /// Another instance has the partition, and settles some of it; this one may get it back at once.
    Lose {
        partition: usize,
        settled_by_others: usize,
        back: bool,
    },
    /// The instance is asked to stop.
    RevokeAll {
        drain: u64,
    },
}

pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    let in_flight = prop_oneof![Just(1usize), 2..8usize, 8..40usize];
    let bounds = (in_flight, prop_oneof![5 => 1..60usize, 1 => 100..300usize], prop_oneof![1..40usize, Just(10_000)]);
    (
        vec(logs(), 1..4),
        bounds,
        prop_oneof![3 => Just(Hashing::Distinct), 1 => Just(Hashing::Colliding)],
        prop_oneof![Just(Settling::EachFinished), Just(Settling::WatermarkOnly)],
        any::<bool>(),
        vec(steps(), 0..120),
    )
        .prop_map(|(mut logs, (in_flight, span, bytes), hashing, settling, gated, steps)| {
            // One log per topic and number.
            for index in 0..logs.len() {
                while logs[..index].iter().any(|log| (log.topic, log.number) == (logs[index].topic, logs[index].number))
                {
                    logs[index].number += 1;
                }
            }
            Schedule { logs, limits: Limits { in_flight, bytes, span }, hashing, settling, gated, steps }
        })
}

fn logs() -> impl Strategy<Value = LogPlan> {
    let keys = prop_oneof![Just(1u64), 2..5u64, Just(100u64)];
    let keyless = prop_oneof![2 => Just(0u64), 1 => 1..4u64, 1 => Just(4u64)];
    let len = prop_oneof![9 => 0..40usize, 1 => 100..250usize];
    (0..2usize, 0..2u32, len, keys, keyless, any::<u64>())
        .prop_map(|(topic, number, len, keys, keyless, seed)| LogPlan { topic, number, len, keys, keyless, seed })
}

fn steps() -> impl Strategy<Value = Step> {
    let any_one = 0..1000usize;
    let back_off = prop_oneof![4 => 0..20u64, 1 => Just(100_000u64)];
    prop_oneof![
        16 => (any_one.clone(), 1..12usize).prop_map(|(partition, max)| Step::Fill { partition, max }),
        1 => any_one.clone().prop_map(|partition| Step::Late { partition }),
        16 => (1..8usize).prop_map(|max| Step::Take { max }),
        1 => (1..8usize).prop_map(|max| Step::TakeWithoutGate { max }),
        3 => any_one.clone().prop_map(|which| Step::GiveBack { which }),
        18 => any_one.clone().prop_map(|which| Step::Succeed { which }),
        10 => (any_one.clone(), back_off, prop::bool::weighted(0.7))
            .prop_map(|(which, back_off, counted)| Step::Fail { which, back_off, counted }),
        1 => (any_one.clone(), 0..20u64).prop_map(|(which, drain)| Step::GiveUp { which, drain }),
        10 => (1..12u64).prop_map(|millis| Step::Pass { millis }),
        1 => (1..30u64).prop_map(|millis| Step::Suspend { millis }),
        8 => Just(Step::Settle),
        3 => (0..4usize).prop_map(|most| Step::ServeCancels { most }),
        4 => any_one.clone().prop_map(|partition| Step::Assign { partition }),
        4 => (any_one.clone(), 0..30u64).prop_map(|(partition, millis)| Step::Renew { partition, millis }),
        2 => (any_one.clone(), 0..20u64).prop_map(|(partition, drain)| Step::Revoke { partition, drain }),
        3 => (any_one, 0..3usize, any::<bool>())
            .prop_map(|(partition, settled_by_others, back)| Step::Lose { partition, settled_by_others, back }),
        1 => (0..20u64).prop_map(|drain| Step::RevokeAll { drain }),
    ]
}
