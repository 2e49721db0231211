//! Counts the instructions of a measured region by running this program again under valgrind's callgrind.

use std::process::Command;

use anyhow::{Context, bail};

/// The function whose instructions are counted, with all that it calls. Not generic, so that its name is stable.
#[inline(never)]
pub fn measured_region(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from becoming a jump out of the region.
    std::hint::black_box(());
}

/// Instructions per message of a region: the difference of two counts of messages, so that starting up cancels out.
pub(crate) fn per_message(region: &str) -> anyhow::Result<f64> {
    const FEW: u64 = 20_000;
    const MANY: u64 = 60_000;
    let (few, many) = (instructions(region, FEW)?, instructions(region, MANY)?);
    Ok((many - few) as f64 / (MANY - FEW) as f64)
}

fn instructions(region: &str, messages: u64) -> anyhow::Result<i64> {
    let program = std::env::current_exe().context("where this program is")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured_region*"])
        .arg(program)
        .args(["--region", region, &messages.to_string()])
        .output()
        .context("valgrind is needed to count instructions (Debian: apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed on {region}: {text}");
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected :").map(|(_, count)| count.trim()));
    collected.context("valgrind printed no count")?.parse().context("valgrind's count")
}
