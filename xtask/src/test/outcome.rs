//! What test programs print, read for what a run has to close with.

/// Lines kept of one program's failures; the rest stands where the program printed it.
const KEPT: usize = 300;

/// How many tests passed and failed, and what the failed ones said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// The programs' accounts of their failures, said again at the end: a long run's log is often read from there.
    pub(super) failures: Vec<String>,
    /// The account that has begun, until the program's result says whether it was one.
    account: Option<Vec<String>>,
}

impl Outcome {
    /// Takes the next line of a test program's output.
    pub(super) fn read(&mut self, line: &str) {
        if let Some((passed, failed)) = result(line) {
            self.passed += passed;
            self.failed += failed;
            // Without a failure a line `failures:` was a test's own.
            let account = self.account.take().filter(|_| failed > 0).unwrap_or_default();
            let left_out = account.len().saturating_sub(KEPT);
            self.failures.extend(account.into_iter().take(KEPT));
            if left_out > 0 {
                self.failures.push(format!("… and {left_out} lines more, in the program's own output"));
            }
        } else if let Some(account) = &mut self.account {
            account.push(line.to_owned());
        } else if line.trim_end() == "failures:" {
            self.account = Some(vec![line.to_owned()]);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What a test program's last line says: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result(line: &str) -> Option<(u64, u64)> {
    let results = line.trim_start().strip_prefix("test result: ")?;
    let number = |what: &str| {
        let (before, _) = results.split_once(what)?;
        before.trim_end().rsplit(' ').next()?.parse().ok()
    };
    Some((number("passed;")?, number("failed;")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_lines_of_test_programs_are_counted() {
        let line =
            "test result: FAILED. 11 passed; 2 failed; 1 ignored; 0 measured; 26 filtered out; finished in 4.89s";
        assert_eq!(result(line), Some((11, 2)));
        let mimic = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result(mimic), Some((3, 0)));
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(result("running 3 tests"), None);
        assert_eq!(result("test says 3 passed; 1 failed; ... ok"), None);
    }

    #[test]
    fn the_closing_line_is_plain() {
        let mut total = Outcome { passed: 1, ..Outcome::default() };
        total.add(Outcome { passed: 2, failed: 3, ..Outcome::default() });
        assert_eq!(total.to_string(), "3 passed, 3 failed");
    }

    fn read(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        for line in lines {
            outcome.read(line);
        }
        outcome
    }

    #[test]
    fn what_failed_is_kept_with_its_account() {
        let said = ["failures:", "", "---- order ----", "key 3: 7 came before 6", "failures:", "    order", ""];
        let outcome =
            read(&[&["test order ... FAILED"], &said[..], &["test result: FAILED. 1 passed; 1 failed; 0"]].concat());
        assert_eq!((outcome.passed, outcome.failed), (1, 1));
        assert_eq!(outcome.failures, said);
    }

    #[test]
    fn what_did_not_fail_gives_no_account() {
        let outcome = read(&["failures:", "none of mine", "test result: ok. 2 passed; 0 failed; 0 ignored;"]);
        assert_eq!(outcome, Outcome { passed: 2, ..Outcome::default() });
    }

    #[test]
    fn a_long_account_is_cut_and_says_so() {
        let many = vec!["x"; KEPT + 9];
        let outcome = read(&[&["failures:"], &many[..], &["test result: FAILED. 0 passed; 1 failed;"]].concat());
        assert_eq!(outcome.failures.len(), KEPT + 1);
        assert_eq!(
            outcome.failures.last().map(String::as_str),
            Some("… and 10 lines more, in the program's own output")
        );
    }
}
