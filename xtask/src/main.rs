//! The project's chores behind one command: `cargo xtask`.

fn main() {}
