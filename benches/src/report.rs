//! Prints figures twice: as a table for people, as JSON lines for programs.

use serde_json::{Map, Value};

/// One row: a benchmark's name and its figures.
pub(crate) struct Row {
    pub(crate) bench: String,
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// The bar it is held against, as text.
    pub(crate) bar: String,
}

pub(crate) fn print(title: &str, rows: &[Row]) {
    println!("\n{title}\n");
    let columns: Vec<&str> =
        rows.first().map(|row| row.figures.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
    println!("| benchmark | {} | bar |", columns.join(" | "));
    println!("|---|{}---|", "---:|".repeat(columns.len()));
    for row in rows {
        let figures: Vec<String> = row.figures.iter().map(|(_, value)| readable(*value)).collect();
        println!("| {} | {} | {} |", row.bench, figures.join(" | "), row.bar);
    }
    println!();
    for row in rows {
        let mut line = Map::new();
        line.insert("bench".to_owned(), Value::from(row.bench.clone()));
        line.extend(row.figures.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        println!("{}", Value::Object(line));
    }
}

fn readable(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
