//! What the benchmarks measure. The program `benches` runs them; `allocations` counts the allocations of one region, in a
//! program of its own so that the counting allocator adds nothing to the other figures.

#[cfg(feature = "broker")]
pub mod broker;
pub mod callgrind;
pub mod concurrency;
pub mod memory;
#[cfg(feature = "outbox")]
pub mod outbox;
mod report;
