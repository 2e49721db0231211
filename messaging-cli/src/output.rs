//! [`Output`]: tables and lines for people, one JSON object per line for programs.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Where results go: the standard output. Everything else goes to the standard error.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One result: as JSON, or as the text made for people.
    pub(crate) fn record<T: Serialize>(&self, record: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.json { self.json(record) } else { self.line(&text(record)) }
    }

    /// Several results: as JSON, or as a table with these columns.
    pub(crate) fn table<T: Serialize, const N: usize>(
        &self,
        columns: [&str; N],
        rows: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure> {
        if self.json {
            return rows.iter().try_for_each(|row| self.json(row));
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(columns);
        table.add_rows(rows.iter().map(&cells));
        // Without a frame, the first column begins at the margin and no line ends with blanks.
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(std::io::stdout().lock(), "{line}")?)
    }

    /// What is worth telling a person beside the results.
    pub(crate) fn note(&self, note: &str) {
        if !self.json {
            eprintln!("{note}");
        }
    }

    pub(crate) fn json(&self, record: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(record).map_err(|error| Failure::failed(error.to_string()))?;
        self.line(&text)
    }
}

/// Text in one line, with at most so many characters.
pub(crate) fn brief(text: &str, most: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most + 1).collect();
    if line.chars().count() > most {
        line = line.chars().take(most.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_text_is_one_line_of_a_length() {
        assert_eq!(brief("a\nb", 10), "a b");
        assert_eq!(brief("äöüß", 4), "äöüß");
        assert_eq!(brief("äöüßx", 4), "äöü…");
    }
}
