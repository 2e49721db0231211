//! The README shows code that compiles: each of its Rust blocks stands in one of the examples, piece by piece.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

/// Code without indentation, documentation and empty lines: what is compared.
fn essence(code: &str) -> String {
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| line.trim_start_matches("pub ").to_owned() + "\n").collect()
}

#[test]
fn every_block_of_the_readme_stands_in_an_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src/lib.rs", "src/bin/publish_and_consume.rs", "tests/unit_test.rs"];
    let sources: String = sources.iter().map(|file| essence(&fs::read_to_string(folder.join(file)).unwrap())).collect();
    let readme = fs::read_to_string(folder.join("../README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3, "the README shows how to publish, to run and to test");
    for block in blocks {
        for piece in block.split("\n\n").map(essence).filter(|piece| !piece.is_empty()) {
            assert!(sources.contains(&piece), "no example says:\n{piece}");
        }
    }
}
