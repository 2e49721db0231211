//! The window against a model of the database and a broker that fails at random: whatever happens, the first time that
//! events of a key are stored is in their order, and in the end all are.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

const PAGE: usize = 7;

fn row(id: i64, lane: Lane) -> Row {
    Row { id, lane, attempts: 0, message: Arc::new(Message::new("t", "")) }
}

/// What is to happen, one step after the other.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction of this many rows of a lane commits.
    Write(u8, u8),
    Read,
    Send(usize),
    /// The oldest batch that is out is answered; each bit says whether one of its rows is stored.
    Answer(u16),
    Delete,
    Wait,
    Rescan,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_u8, 1..90_u8).prop_map(|(lane, rows)| Step::Write(lane, rows)),
        Just(Step::Read),
        Just(Step::Read),
        (1..5_usize).prop_map(Step::Send),
        any::<u16>().prop_map(Step::Answer),
        Just(Step::Answer(u16::MAX)),
        Just(Step::Delete),
        Just(Step::Wait),
        Just(Step::Rescan),
    ]
}

struct World {
    window: Window,
    table: BTreeMap<i64, Lane>,
    last: i64,
    out: VecDeque<Vec<Row>>,
    stored: Vec<(Lane, i64)>,
    done: Vec<i64>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut window = Window::default();
        window.rescan();
        Self {
            window,
            table: BTreeMap::new(),
            last: 0,
            out: VecDeque::new(),
            stored: Vec::new(),
            done: Vec::new(),
            now: Instant::now(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write(lane, rows) => {
                for _ in 0..rows {
                    self.last += 1;
                    let lane = if lane == 0 { Lane::Row(self.last) } else { Lane::Key(i64::from(lane)) };
                    self.table.insert(self.last, lane);
                }
                self.window.written();
            }
            Step::Read => {
                self.window.wake(self.now);
                let page: Vec<Row> = self
                    .table
                    .range(self.window.scan_from() + 1..)
                    .take(PAGE)
                    .map(|(id, lane)| row(*id, *lane))
                    .collect();
                let (last, full) = (page.last().map(|row| row.id), page.len() == PAGE);
                self.window.offer(page, last, full);
            }
            Step::Send(max) => {
                let batch = self.window.batch(max, usize::MAX);
                for row in &batch {
                    let same = self.out.iter().flatten().chain(&batch).filter(|other| other.lane == row.lane);
                    assert_eq!(same.count(), 1, "two of {:?} are out at once", row.lane);
                }
                if !batch.is_empty() {
                    self.out.push_back(batch);
                }
            }
            Step::Answer(bits) => {
                for (index, row) in self.out.pop_front().unwrap_or_default().into_iter().enumerate() {
                    if bits & (1 << (index % 16)) == 0 {
                        self.window.failed(&row);
                        self.window.park(&row, self.now + Duration::from_millis(10));
                    } else {
                        self.stored.push((row.lane, row.id));
                        self.window.confirmed(&row);
                        self.done.push(row.id);
                    }
                }
            }
            Step::Delete => {
                for id in &self.done {
                    self.table.remove(id);
                }
                self.window.deleted(&std::mem::take(&mut self.done));
            }
            Step::Wait => self.now += Duration::from_millis(10),
            Step::Rescan => self.window.rescan(),
        }
    }
}

proptest! {
    #[test]
    fn each_key_keeps_its_order_and_nothing_is_left_behind(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // Calm at last.
        for round in 0_u32.. {
            if world.table.is_empty() {
                break;
            }
            prop_assert!(round < 5_000, "{} rows are left behind", world.table.len());
            if !world.window.is_unread() && world.out.is_empty() && !world.window.is_ready() {
                world.take(Step::Rescan);
            }
            for step in [Step::Wait, Step::Read, Step::Send(10), Step::Answer(u16::MAX), Step::Delete] {
                world.take(step);
            }
        }
        prop_assert_eq!(world.window.len(), 0);
        let mut last: HashMap<Lane, i64> = HashMap::new();
        for (lane, id) in &world.stored {
            let before = last.insert(*lane, *id).unwrap_or(0);
            prop_assert!(before < *id, "{id} of {lane:?} was stored after {before}");
        }
        prop_assert_eq!(world.stored.len() as i64, world.last);
    }
}

#[test]
fn a_long_queue_of_one_key_leaves_room_for_the_others() {
    let mut window = Window::default();
    let page: Vec<Row> = (1..=1_000).map(|id| row(id, Lane::Key(1))).collect();
    assert_eq!(window.offer(page, Some(1_000), true), 1 + PER_LANE);
    assert_eq!(window.offer(vec![row(1_001, Lane::Key(2))], Some(1_001), false), 1);
    let lanes: Vec<Lane> = window.batch(10, usize::MAX).iter().map(|row| row.lane).collect();
    assert_eq!(lanes, [Lane::Key(1), Lane::Key(2)]);
}

#[test]
fn a_held_key_stays_in_the_database_until_it_is_let_go() {
    let mut window = Window::default();
    window.offer(vec![row(1, Lane::Key(1)), row(2, Lane::Key(1))], Some(2), false);
    let head = window.batch(1, usize::MAX).remove(0);
    window.buried(&head, true);
    assert!(!window.is_ready() && window.len() == 0);
    window.offer(vec![row(2, Lane::Key(1))], Some(2), false);
    assert!(!window.is_ready());
    window.hold([]);
    assert!(window.is_unread() && window.scan_from() == 0);
    window.offer(vec![row(2, Lane::Key(1))], Some(2), false);
    assert_eq!(window.batch(1, usize::MAX)[0].id, 2);
}

#[test]
fn a_batch_keeps_within_its_bytes_unless_one_row_does_not() {
    let heavy = |id| Row { message: Arc::new(Message::new("t", vec![0; 100])), ..row(id, Lane::Row(id)) };
    let mut window = Window::default();
    window.offer((1..=5).map(heavy).collect(), Some(5), false);
    assert_eq!([250, 50, 1_000].map(|bytes| window.batch(10, bytes).len()), [2, 1, 2]);
    assert!(window.batch(10, 1_000).is_empty());
}
