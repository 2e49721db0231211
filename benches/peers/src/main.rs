//! Instructions and allocations per message of other libraries, on their own bus in the process.

use benches::memory::measured;
use peers::{REGIONS, run};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // One measured region, for the instruction counter.
        ["--region", region, messages] => run(region, messages.parse()?, &|work| work()),
        [] => measured("Peers, in the process, per message", "peers-allocations", REGIONS.map(|region| (region, "–"))),
        _ => anyhow::bail!("peers takes no arguments"),
    }
}
