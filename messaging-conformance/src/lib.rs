//! The delivery contract as code.

#![warn(missing_docs)]

pub mod checker;
pub mod history;

pub use history::{History, Record, What};
