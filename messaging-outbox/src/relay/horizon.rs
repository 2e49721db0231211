//! [`Horizon`]: up to which id of a shard no row can appear any more. Ids are given before their transactions commit, so
//! that a row may appear below ones that were read long ago; what follows it on its key must not overtake it.

/// Told by the transactions that run: a row that is yet to appear below an id that was read belongs to one that ran then.
/// Once all of those have ended, every such row is there or never will be.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    settled: i64,
    /// An id that had been read when every running transaction was below a number.
    mark: Option<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    id: i64,
    transactions: i64,
}

/// Which transactions run, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// All before this one have ended.
    pub(crate) first: i64,
    /// This one has not begun.
    pub(crate) next: i64,
}

impl Horizon {
    /// Nothing can appear up to this id.
    pub(crate) fn settled(&self) -> i64 {
        self.settled
    }

    /// Everything up to `seen` was looked at while these transactions ran, after rows up to `read` had been read.
    pub(crate) fn looked(&mut self, seen: i64, read: i64, running: Running) {
        if let Some(mark) = self.mark.take_if(|mark| mark.id <= seen && mark.transactions <= running.first) {
            self.settled = self.settled.max(mark.id);
        }
        self.mark.get_or_insert(Mark { id: read, transactions: running.next });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_settled_when_all_that_ran_have_ended_and_it_was_looked_at_since() {
        let mut horizon = Horizon::default();
        horizon.looked(5, 10, Running { first: 100, next: 103 });
        horizon.looked(10, 20, Running { first: 102, next: 110 });
        assert_eq!(horizon.settled(), 0, "transaction 102 may still write below 10");
        horizon.looked(0, 20, Running { first: 110, next: 111 });
        assert_eq!(horizon.settled(), 0, "what it wrote was not looked for");
        horizon.looked(20, 30, Running { first: 110, next: 120 });
        assert_eq!(horizon.settled(), 10);
        horizon.looked(30, 40, Running { first: 120, next: 121 });
        assert_eq!(horizon.settled(), 30);
    }
}
