//! Counts the allocations of one measured region: `peers-allocations REGION MESSAGES` prints their number.

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let region = arguments.next().context("a region's name is missing")?;
    let messages = arguments.next().context("a number of messages is missing")?.parse()?;
    let count = std::cell::Cell::new(0);
    peers::run(&region, messages, &|work| count.set(allocation_counter::measure(work).count_total))?;
    println!("{}", count.get());
    Ok(())
}
