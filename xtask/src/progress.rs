//! Progress with one line per broker: spinners in a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use test_brokers::Kind;

/// The steps that brokers go through.
pub(crate) struct Steps {
    all: MultiProgress,
    bars: BTreeMap<Kind, ProgressBar>,
    is_terminal: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { all: MultiProgress::new(), bars: BTreeMap::new(), is_terminal }
    }

    /// What a broker is at now.
    pub(crate) fn begin(&mut self, kind: Kind, what: &str) {
        if !self.is_terminal {
            return;
        }
        let bar = self.bars.entry(kind).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix:12} {wide_msg} {elapsed}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(kind.product());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(what.to_owned());
    }

    /// What came of it: a line that stays.
    pub(crate) fn end(&mut self, kind: Kind, good: bool, result: &str) {
        let line = format!("{} {result}", if good { "✔" } else { "✘" });
        match self.bars.remove(&kind) {
            Some(bar) => {
                bar.finish_and_clear();
                // Fails only if standard error is gone, and the line with it.
                let _ = self.all.println(line);
            }
            None => eprintln!("{line}"),
        }
    }
}
