//! Lane order at scale: 100 slots, 1,000 keys, 100 messages of each on average; handlers of any length, failures,
//! revocations, and owners that go stale.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use proptest::prelude::*;

use super::{
    schedule::{Hashing, LogPlan, Schedule, Settling},
    simulation::{Judge, Simulation},
};
use crate::{
    engine::{EntryId, Limits, Verdict},
    time::Tick,
};

const PARTITIONS: u32 = 8;
const KEYS: u64 = 1000;
const MESSAGES: usize = 100_000;
const SLOTS: usize = 100;

fn plan(seed: u64, settling: Settling) -> Schedule {
    let log = |number| LogPlan {
        topic: 0,
        number,
        len: MESSAGES / PARTITIONS as usize,
        keys: KEYS / u64::from(PARTITIONS),
        keyless: 0,
        seed: seed.wrapping_add(u64::from(number) << 32),
    };
    Schedule {
        logs: (0..PARTITIONS).map(log).collect(),
        limits: Limits { in_flight: 1000, bytes: usize::MAX, span: 5000 },
        hashing: Hashing::Distinct,
        settling,
        gated: true,
        steps: Vec::new(),
    }
}

/// A millisecond at a time, until every message is settled.
fn live(seed: u64, settling: Settling) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut simulation = Simulation::new(&plan(seed, settling), Judge::History);
    let logs = PARTITIONS as usize;
    // A partition that is renewed no more, and when it is another's.
    let mut stale: Vec<Option<Tick>> = vec![None; logs];
    let (mut lost, mut revoked) = (0, 0);
    let mut ends: BinaryHeap<Reverse<(Tick, u64, u32)>> = BinaryHeap::new();
    while simulation.broker.first_unsettled().is_some() {
        simulation.now = simulation.after(1);
        let now = simulation.now;
        while let Some(Reverse((_, seq, index))) = ends.peek().copied().filter(|Reverse((end, ..))| *end <= now) {
            ends.pop();
            let id = EntryId { seq, index };
            let Some(at) = simulation.out.iter().position(|out| out.start.id == id) else { continue };
            let back_off = Duration::from_millis(random.u64(1..50));
            let verdict = match random.u32(0..1000) {
                0..40 => Verdict::Park { until: now + back_off, counted: true, note: None },
                40..50 => Verdict::Park { until: now + back_off, counted: false, note: None },
                50 => Verdict::GiveUp { drain_until: now + back_off },
                _ => Verdict::Finished,
            };
            simulation.finish(at, verdict);
        }
        simulation.look();
        for (log, stale) in stale.iter_mut().enumerate() {
            match *stale {
                Some(taken) if taken <= now => {
                    *stale = None;
                    lost += 1;
                    simulation.lose(log, random.usize(0..20));
                }
                Some(_) => {}
                None if random.u32(0..2000) == 0 => *stale = Some(simulation.after(40)),
                None if random.u32(0..1000) == 0 => {
                    revoked += 1;
                    simulation.revoke(log, simulation.after(random.u64(0..30)));
                }
                None => simulation.renew(log, 20),
            }
            if simulation.broker.logs[log].handle.is_none() && random.u32(0..20) == 0 {
                simulation.assign(log);
            }
        }
        simulation.settle_and_release();
        for log in 0..logs {
            simulation.fill(log, usize::MAX);
        }
        // Some handlers block their thread, and end when they end.
        simulation.serve_cancels(random.usize(0..8));
        let before = simulation.out.len();
        simulation.take(simulation.gate(), SLOTS.saturating_sub(before));
        for out in &simulation.out[before..] {
            let length = if random.u32(0..100) == 0 { random.u64(20..200) } else { random.u64(0..8) };
            ends.push(Reverse((simulation.after(length), out.start.id.seq, out.start.id.index)));
        }
        simulation.check();
    }
    simulation.stop();
    assert!(lost > 0 && revoked > 0, "{lost} lost, {revoked} revoked");
    assert!(simulation.history.starts >= MESSAGES as u64 * 9 / 10, "others settled more than their share");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lanes_keep_their_order_at_scale(seed in any::<u64>(), each in any::<bool>()) {
        live(seed, if each { Settling::EachFinished } else { Settling::WatermarkOnly });
    }
}
