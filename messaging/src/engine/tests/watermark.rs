//! The finished set alone, at spans far beyond its first size, against a list of what is finished.

use proptest::{collection::vec, prelude::*};

use crate::{delivery::Position, engine::tracker::Tracker};

#[derive(Clone, Debug)]
enum Step {
    Push {
        count: usize,
    },
    /// Finishes some that are not, counted from the oldest; or from the newest.
    Finish {
        which: usize,
        count: usize,
        newest: bool,
    },
    Settle,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..100usize).prop_map(|count| Step::Push { count }),
        4 => (0..40usize, 1..100usize, any::<bool>())
            .prop_map(|(which, count, newest)| Step::Finish { which, count, newest }),
        1 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passes_what_is_finished_and_nothing_else(steps in vec(steps(), 1..40)) {
        let mut tracker = Tracker::default();
        let mut open: Vec<u64> = Vec::new();
        let (mut pushed, mut finished) = (0u64, Vec::new());
        for step in steps {
            match step {
                Step::Push { count } => {
                    for _ in 0..count {
                        let ordinal = tracker.push(Position::new(pushed * 2));
                        prop_assert_eq!(ordinal, pushed);
                        open.push(ordinal);
                        pushed += 1;
                    }
                }
                Step::Finish { which, count, newest } => {
                    for _ in 0..count.min(open.len()) {
                        let from_oldest = which % open.len();
                        let at = if newest { open.len() - 1 - from_oldest } else { from_oldest };
                        let ordinal = open.remove(at);
                        let position = Position::new(ordinal * 2);
                        prop_assert_eq!(tracker.finish(ordinal, position), finished.is_empty());
                        prop_assert!(!tracker.finish(ordinal, position), "once");
                        finished.push(position);
                    }
                }
                Step::Settle => {
                    tracker.clear_finished();
                    finished.clear();
                }
            }
            let oldest = open.first().copied().unwrap_or(pushed);
            prop_assert_eq!(tracker.finished(), &finished[..]);
            prop_assert_eq!(tracker.span() as u64, pushed - oldest);
            prop_assert_eq!(tracker.through(), oldest.checked_sub(1).map(|last| Position::new(last * 2)));
            for ordinal in [oldest, oldest + (pushed - oldest) / 2] {
                prop_assert_eq!(tracker.span_from(ordinal) as u64, pushed - ordinal);
            }
        }
    }
}
