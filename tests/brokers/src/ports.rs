//! Ports that stay ours while a broker is down.
//!
//! A port from the kernel's ephemeral range can be taken by any outgoing connection while its broker restarts, and a
//! client that keeps dialling it may even connect to itself. So ports come from below that range, and a lock file per
//! port keeps other test processes off it.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use crate::error::Error;

/// A port on 127.0.0.1, reserved for as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Reserves a port that nothing listens on.
    pub(crate) fn reserve() -> Result<Self, Error> {
        let folder = lock_folder();
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("creating {}", folder.display())))?;
        let range = range();
        for _ in 0..1000 {
            let number = fastrand::u16(range.clone());
            let lock = File::options().create(true).append(true).open(folder.join(number.to_string()));
            let lock = lock.map_err(Error::io("opening a port's lock file"))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(Error::io("locking a port")(error)),
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        let nothing = std::io::Error::new(std::io::ErrorKind::AddrInUse, "a thousand ports tried");
        Err(Error::io("reserving a port")(nothing))
    }
}

/// Reserves `count` ports.
pub(crate) fn reserve(count: usize) -> Result<Vec<Port>, Error> {
    (0..count).map(|_| Port::reserve()).collect()
}

fn lock_folder() -> PathBuf {
    // One folder per user: another user's lock files could not be opened.
    std::env::temp_dir().join(format!("test-brokers-ports-{}", rustix::process::getuid().as_raw()))
}

fn range() -> std::ops::Range<u16> {
    const FIRST: u16 = 15_000;
    const LAST: u16 = 32_000;
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let first_ephemeral: Option<u16> =
        ephemeral.and_then(|range| range.split_whitespace().next().and_then(|first| first.parse().ok()));
    match first_ephemeral {
        Some(first) if first >= FIRST + 1000 => FIRST..first.min(LAST),
        _ => FIRST..LAST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_never_share_a_port() {
        let mut numbers: Vec<_> = reserve(200).unwrap().iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
    }
}
