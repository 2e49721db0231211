//! The engine's rules one by one, as examples. Where the property once found a bug, its shortest story is here.

use super::ms;
use crate::{
    delivery::Position,
    engine::{Engine, EntryId, Incoming, Limits, Start, Verdict},
    time::Tick,
};

type Starts = Vec<Start<u64, u32>>;

fn engine(in_flight: usize, span: usize) -> Engine<u64, u32> {
    Engine::new(Limits { in_flight, bytes: usize::MAX, span })
}

fn push(engine: &mut Engine<u64, u32>, partition: u32, number: u64, key: Option<u64>) {
    let position = Position::new(number);
    engine.push(partition, Incoming { position, lane: key, bytes: 1, deaths: 0, item: number });
}

fn take(engine: &mut Engine<u64, u32>) -> Starts {
    let mut starts = Vec::new();
    engine.take(None, usize::MAX, |start| starts.push(start));
    starts
}

fn items(starts: &Starts) -> Vec<u64> {
    starts.iter().map(|start| start.item).collect()
}

fn park(engine: &mut Engine<u64, u32>, id: EntryId, until: Tick, counted: bool) {
    engine.finish(id, Verdict::Park { until, counted, note: None });
}

/// A look wakes the first delivery, long before its back-off is over, to be dead-lettered.
fn assert_woken_early(engine: &mut Engine<u64, u32>, now: Tick) -> Starts {
    assert_eq!(engine.next_deadline(), Some(Tick::default()), "it wants a look although nothing is due");
    engine.advance(now);
    let starts = take(engine);
    assert_eq!((items(&starts), starts[0].crowded()), (vec![1], true));
    starts
}

fn settled(engine: &mut Engine<u64, u32>) -> Vec<(u32, Vec<u64>, Option<u64>)> {
    let mut all = Vec::new();
    engine.settlements().each(|settled| {
        let finished = settled.finished.iter().map(|position| position.major).collect();
        all.push((settled.partition, finished, settled.through.map(|position| position.major)));
    });
    all
}

#[test]
fn a_failing_head_holds_its_lane_and_no_other() {
    let mut engine = engine(100, 100);
    let partition = engine.assign(0, 1, 0);
    for (number, key) in [(1, 7), (2, 8), (3, 7)] {
        push(&mut engine, partition, number, Some(key));
    }
    let starts = take(&mut engine);
    assert_eq!(items(&starts), [1, 2]);
    park(&mut engine, starts[0].id, ms(50), true);
    engine.finish(starts[1].id, Verdict::Finished);
    assert_eq!(settled(&mut engine), [(partition, vec![2], None)]);
    assert_eq!(engine.next_deadline(), Some(ms(50)));
    engine.advance(ms(49));
    assert_eq!(engine.ready(), 0);
    engine.advance(ms(50));
    let again = take(&mut engine);
    assert_eq!((items(&again), again[0].attempts()), (vec![1], 1));
    engine.finish(again[0].id, Verdict::Finished);
    assert_eq!(items(&take(&mut engine)), [3]);
    assert_eq!(settled(&mut engine), [(partition, vec![1], Some(2))]);
}

#[test]
fn nothing_starts_at_or_after_the_end_of_the_validity() {
    let mut engine = engine(100, 100);
    let partition = engine.assign(0, 1, 0);
    engine.renew(partition, ms(10));
    push(&mut engine, partition, 1, Some(1));
    let mut starts = Vec::new();
    engine.take(Some(ms(10)), 1, |start| starts.push(start));
    engine.take(None, 1, |start| starts.push(start));
    assert_eq!((starts.len(), engine.ready()), (0, 0), "and nobody need ask again before a renewal");
    engine.renew(partition, ms(20));
    assert_eq!(engine.ready(), 1);
    engine.take(Some(ms(19)), 1, |start| starts.push(start));
    assert_eq!(items(&starts), [1]);
}

#[test]
fn a_start_of_a_lost_partition_holds_its_lane_under_the_next_assignment() {
    let mut engine = engine(100, 100);
    let before = engine.assign(3, 1, 0);
    push(&mut engine, before, 1, Some(7));
    let orphan = take(&mut engine).remove(0);
    engine.lose(before);
    assert_eq!(engine.cancels().collect::<Vec<_>>(), [orphan.id]);
    let after = engine.assign(3, 2, 0);
    push(&mut engine, after, 1, Some(7));
    push(&mut engine, after, 2, Some(8));
    assert_eq!(items(&take(&mut engine)), [2]);
    engine.finish(orphan.id, Verdict::Finished);
    assert_eq!(items(&take(&mut engine)), [1]);
    assert_eq!(settled(&mut engine), [], "what ends after the loss is not settled");
}

#[test]
fn a_start_without_a_key_is_not_repeated_while_it_is_still_out() {
    let mut engine = engine(100, 100);
    let before = engine.assign(3, 1, 0);
    push(&mut engine, before, 1, None);
    let orphan = take(&mut engine).remove(0);
    engine.lose(before);
    let after = engine.assign(3, 2, 0);
    push(&mut engine, after, 1, None);
    push(&mut engine, after, 2, None);
    assert_eq!(items(&take(&mut engine)), [2]);
    engine.finish(orphan.id, Verdict::Dropped);
    assert_eq!(items(&take(&mut engine)), [1]);
}

#[test]
fn a_waiting_repetition_goes_with_its_partition() {
    let mut engine = engine(100, 100);
    let before = engine.assign(3, 1, 0);
    push(&mut engine, before, 1, None);
    let orphan = take(&mut engine).remove(0);
    engine.lose(before);
    let after = engine.assign(3, 2, 0);
    push(&mut engine, after, 1, None);
    engine.revoke(after, ms(10));
    assert_eq!((engine.in_flight(), engine.drained()), (1, Some(after)));
    engine.finish(orphan.id, Verdict::Dropped);
    assert_eq!((engine.in_flight(), engine.ready()), (0, 0));
}

#[test]
fn a_revoked_partition_is_drained_when_its_last_start_has_ended() {
    let mut engine = engine(100, 100);
    let partition = engine.assign(0, 1, 0);
    for number in 1..=3 {
        push(&mut engine, partition, number, Some(number));
    }
    let mut starts = Vec::new();
    engine.take(None, 2, |start| starts.push(start));
    engine.revoke(partition, ms(10));
    assert_eq!((engine.in_flight(), engine.ready(), engine.drained()), (2, 0, None));
    engine.finish(starts[0].id, Verdict::Finished);
    assert_eq!(settled(&mut engine), [(partition, vec![1], Some(1))]);
    assert_eq!(engine.drained(), None);
    assert_eq!(engine.next_deadline(), Some(ms(10)));
    engine.advance(ms(10));
    assert_eq!(engine.cancels().collect::<Vec<_>>(), [starts[1].id]);
    engine.finish(starts[1].id, Verdict::Dropped);
    assert_eq!(settled(&mut engine), [], "what was dropped comes back");
    assert_eq!(engine.drained(), Some(partition));
    assert!(engine.is_blank());
}

#[test]
fn a_retry_may_run_while_its_partition_is_revoked() {
    let mut engine = engine(100, 100);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(1));
    let first = take(&mut engine).remove(0);
    park(&mut engine, first.id, ms(1), false);
    assert_eq!(engine.credit(partition), 0, "a failure of infrastructure pauses intake");
    engine.advance(ms(1));
    let second = take(&mut engine).remove(0);
    engine.revoke(partition, ms(10));
    engine.finish(second.id, Verdict::Finished);
    assert_eq!(settled(&mut engine), [(partition, vec![1], Some(1))]);
    assert_eq!(engine.drained(), Some(partition));
}

#[test]
fn what_is_parked_is_forgotten_with_its_partition() {
    let mut engine = engine(100, 100);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(1));
    let start = take(&mut engine).remove(0);
    park(&mut engine, start.id, ms(600_000), true);
    engine.lose(partition);
    assert_eq!(engine.next_deadline(), None);
    assert!(engine.is_blank());
}

#[test]
fn lanes_that_share_a_hash_only_wait_for_each_other() {
    let mut engine = engine(100, 100);
    let (one, other) = (engine.assign(0, 1, 0), engine.assign(1, 1, 0));
    push(&mut engine, one, 1, Some(7));
    push(&mut engine, other, 2, Some(7));
    push(&mut engine, one, 3, Some(7));
    push(&mut engine, other, 4, Some(7));
    engine.revoke(one, ms(0));
    let starts = take(&mut engine);
    assert_eq!(items(&starts), [2]);
    engine.finish(starts[0].id, Verdict::Finished);
    assert_eq!(items(&take(&mut engine)), [4]);
}

#[test]
fn a_parked_head_that_fills_half_a_bound_is_woken_at_once() {
    let mut engine = engine(32, 1000);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(7));
    let start = take(&mut engine).remove(0);
    park(&mut engine, start.id, ms(600_000), true);
    for number in 2..=16 {
        push(&mut engine, partition, number, Some(7));
        if engine.next_deadline() == Some(Tick::default()) {
            engine.advance(ms(1));
        }
        assert_eq!(engine.ready(), 0, "{} wait behind it", number - 1);
    }
    push(&mut engine, partition, 17, Some(7));
    push(&mut engine, partition, 18, Some(7));
    let starts = assert_woken_early(&mut engine, ms(1));
    // No slot was free: it is handed out once more, and still to be dead-lettered.
    engine.give_back(starts.into_iter().next().unwrap());
    let starts = take(&mut engine);
    assert_eq!((items(&starts), starts[0].crowded()), (vec![1], true));
    // Its dead letter cannot be written: it waits again, and now as long as it is told to.
    park(&mut engine, starts[0].id, ms(700_000), false);
    assert_eq!(engine.next_deadline(), Some(ms(700_000)));
}

#[test]
fn a_span_filled_by_other_lanes_crowds_too() {
    let mut engine = engine(1000, 40);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(1));
    let start = take(&mut engine).remove(0);
    park(&mut engine, start.id, ms(600_000), true);
    for number in 2..=21 {
        assert_eq!(engine.ready(), 0);
        push(&mut engine, partition, number, Some(number));
        let starts = take(&mut engine);
        assert_eq!(items(&starts), [number]);
        engine.finish(starts[0].id, Verdict::Finished);
    }
    assert_woken_early(&mut engine, ms(1));
}

#[test]
fn a_head_that_is_parked_after_the_span_has_filled_is_woken_at_once() {
    let mut engine = engine(1000, 40);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(1));
    let head = take(&mut engine).remove(0);
    for number in 2..=40 {
        push(&mut engine, partition, number, Some(number));
        let other = take(&mut engine).remove(0);
        engine.finish(other.id, Verdict::Finished);
    }
    assert_eq!(engine.credit(partition), 0, "nothing more is taken in");
    park(&mut engine, head.id, ms(600_000), true);
    assert_woken_early(&mut engine, ms(1));
}

#[test]
fn a_head_that_is_parked_after_its_lane_has_filled_the_window_is_woken_at_once() {
    let mut engine = engine(32, 1000);
    let partition = engine.assign(0, 1, 0);
    (1..=32).for_each(|number| push(&mut engine, partition, number, Some(7)));
    let head = take(&mut engine).remove(0);
    park(&mut engine, head.id, ms(600_000), false);
    assert_eq!(engine.next_deadline(), Some(ms(600_000)), "infrastructure is not the message's fault");
    engine.advance(ms(600_000));
    let head = take(&mut engine).remove(0);
    park(&mut engine, head.id, ms(900_000), true);
    assert_woken_early(&mut engine, ms(600_001));
}

#[test]
fn a_small_window_leaves_a_parked_head_its_time() {
    let mut engine = engine(16, 16);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(7));
    let start = take(&mut engine).remove(0);
    park(&mut engine, start.id, ms(200), true);
    for number in 2..=16 {
        push(&mut engine, partition, number, Some(7));
        if engine.next_deadline() == Some(Tick::default()) {
            engine.advance(ms(1));
        }
    }
    assert_eq!((engine.credit(partition), engine.next_deadline()), (0, Some(ms(200))));
    engine.advance(ms(200));
    let again = take(&mut engine);
    assert_eq!((items(&again), again[0].crowded()), (vec![1], false));
}

#[test]
fn a_window_of_one_retries_as_any_other() {
    let mut engine = engine(1, 1);
    let partition = engine.assign(0, 1, 0);
    push(&mut engine, partition, 1, Some(7));
    let start = take(&mut engine).remove(0);
    park(&mut engine, start.id, ms(200), true);
    assert_eq!((engine.credit(partition), engine.next_deadline()), (0, Some(ms(200))));
    engine.advance(ms(200));
    assert!(!take(&mut engine)[0].crowded());
}
