//! What happened in a run, as records: who published what, which handler ran when and how it ended, who was harmed.
//! The [`checker`](crate::checker) judges it afterwards.
//!
//! Records of several processes of one machine can be merged: their times are of one clock, which all processes share.

mod log;
mod record;

use std::io::{self, BufRead, Write};

pub use log::{GroupTally, Log, Overdue, Tally};
pub use record::{End, Record, Start, What, payload_hash};

/// Everything that was recorded, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    records: Vec<Record>,
}

impl History {
    /// A history of these records, brought into the order of time.
    #[must_use]
    pub fn new(mut records: Vec<Record>) -> Self {
        records.sort_by_key(|record| record.at);
        Self { records }
    }

    /// Reads records that were written as lines of JSON. A last line that was cut short, as a killed process leaves
    /// it, is left out.
    ///
    /// # Errors
    /// If reading fails, or a line that is complete is no record; the line's number is named.
    pub fn read(lines: impl BufRead) -> io::Result<Self> {
        let mut records = Vec::new();
        for (index, line) in lines.split(b'\n').enumerate() {
            let line = line?;
            match serde_json::from_slice(&line) {
                Ok(record) => records.push(record),
                Err(_) if line.is_empty() => {}
                Err(error) if error.is_eof() => {}
                Err(error) => {
                    let what = format!("line {}: {error}", index + 1);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
        Ok(Self::new(records))
    }

    /// Writes every record as a line of JSON.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for record in &self.records {
            serde_json::to_writer(&mut out, record)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// This history and another, as one.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.records.extend(other.records);
        Self::new(self.records)
    }

    /// The records, in the order of time.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_several_processes_merge_by_time_and_survive_a_cut_last_line() {
        let started = |at, who| Record::new(at, who, What::Joined { group: "g".into() });
        let first = History::new(vec![started(3, "a"), started(1, "a")]);
        let mut lines = Vec::new();
        History::new(vec![started(2, "b")]).write(&mut lines).unwrap();
        lines.extend_from_slice(br#"{"at":9,"who":"b","#);
        let merged = first.merged(History::read(&lines[..]).unwrap());
        let times: Vec<u64> = merged.records().iter().map(|record| record.at).collect();
        assert_eq!(times, [1, 2, 3]);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let error = History::read(&b"\n{\"at\":1}\n"[..]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
