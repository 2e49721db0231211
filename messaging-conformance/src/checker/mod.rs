//! Judges a recorded history by the contract: [`check`] finds what may never happen, and counts what may happen a
//! little (duplicates, recovery times), which is reported and never taken out first.
//!
//! A rule per file: `loss`, `phantoms`, `order`, `repeats`, `dead_letters`, `bounds`. What they share is in `facts`.

mod bounds;
mod dead_letters;
mod expectations;
mod facts;
mod loss;
mod order;
mod phantoms;
mod repeats;
mod report;

pub use expectations::{Expectations, GroupExpectation, Repeats};
pub use report::{Figures, Report, Rule, Violation};

use crate::history::History;
use facts::Facts;

/// Judges a history. `expectations` say which groups were there and what was made to fail; everything else is the
/// contract's.
#[must_use]
pub fn check(history: &History, expectations: &Expectations) -> Report {
    let facts = Facts::gather(history);
    let mut report = Report::default();
    phantoms::check(&facts, &mut report);
    order::check_log(&facts, &mut report);
    bounds::check_overdue(&facts, &mut report);
    for group in &expectations.groups {
        loss::check(&facts, group, &mut report);
        order::check_handling(&facts, group, &mut report);
        repeats::check(&facts, group, &mut report);
        dead_letters::check(&facts, group, &mut report);
        bounds::check_group(&facts, group, &mut report);
    }
    report.figures.confirmed = facts.confirmed().count();
    report.figures.attempted = facts.messages.len();
    report
}
