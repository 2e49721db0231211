//! One way of a connection: reads, holds back, and writes as the faults of the moment say.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::sync::PoisonError;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use super::faults::{Ending, Faults, Way};
use super::{Control, Shared};

/// How much may wait here; beyond it the sender sees its buffers fill, as it would without a proxy.
const CAPACITY: usize = 8 << 20;

/// Why a connection ends other than by both ends closing it.
pub(super) enum End {
    Reset,
    Close,
}

pub(super) struct Pump<'a> {
    way: Way,
    from: &'a TcpStream,
    to: &'a TcpStream,
    shared: &'a Shared,
    control: watch::Receiver<Control>,
    /// How many resets there had been when the connection was accepted.
    resets: u64,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// With limited bandwidth, the earliest moment for the next write.
    next_write: Instant,
    /// The sender closed its side.
    finished: bool,
    /// A cut ended this way in silence.
    silenced: bool,
    /// A black hole took bytes, so the stream has a hole.
    holed: bool,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        way: Way,
        from: &'a TcpStream,
        to: &'a TcpStream,
        shared: &'a Shared,
        control: watch::Receiver<Control>,
        resets: u64,
    ) -> Self {
        Self {
            way,
            from,
            to,
            shared,
            control,
            resets,
            queue: VecDeque::new(),
            queued: 0,
            next_write: Instant::now(),
            finished: false,
            silenced: false,
            holed: false,
        }
    }

    /// Runs until the sender closed its side and all it sent is passed on.
    pub(super) async fn run(mut self) -> Result<(), End> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Control { faults, resets } = self.control.borrow_and_update().clone();
            if resets != self.resets || (self.holed && !faults.black_hole) {
                return Err(End::Reset);
            }
            if faults.black_hole {
                self.holed |= self.queued > 0;
                self.queue.clear();
                self.queued = 0;
            }
            let held = faults.lane(self.way).stalled || self.silenced;
            if self.finished && self.queue.is_empty() && !held && !faults.black_hole {
                // Fails only if the receiver is gone, which the other way notices.
                let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
                return Ok(());
            }
            let reads = !self.finished && (faults.black_hole || (!held && self.queued < CAPACITY));
            let due = self.queue.front().map(|chunk| chunk.due.max(self.next_write)).filter(|_| !held);
            let writes = due.is_some_and(|due| due <= Instant::now());
            let (from, to) = (self.from, self.to);
            tokio::select! {
                changed = self.control.changed() => {
                    if changed.is_err() {
                        return Err(End::Reset);
                    }
                    self.silenced = false;
                }
                ready = from.readable(), if reads => {
                    ready.map_err(|_| End::Reset)?;
                    self.read(&mut buffer, &faults)?;
                }
                ready = to.writable(), if writes => {
                    ready.map_err(|_| End::Reset)?;
                    self.write(&faults)?;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !writes => {}
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], faults: &Faults) -> Result<(), End> {
        match self.from.try_read(buffer) {
            Ok(0) => self.finished = true,
            Ok(_) if faults.black_hole => self.holed = true,
            Ok(length) => {
                let due = Instant::now() + faults.lane(self.way).latency;
                self.queue.push_back(Chunk { due, bytes: buffer[..length].to_vec(), written: 0 });
                self.queued += length;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(End::Reset),
        }
        Ok(())
    }

    /// Passes on what the oldest chunk, the bandwidth and the cut allow, at most the whole chunk.
    fn write(&mut self, faults: &Faults) -> Result<(), End> {
        let Some(chunk) = self.queue.front_mut() else { return Ok(()) };
        let bandwidth = faults.lane(self.way).bandwidth;
        // A twentieth of a second's worth at a time keeps the rate even.
        let most = bandwidth.map_or(usize::MAX, |rate| usize::try_from((rate / 20).max(1)).unwrap_or(usize::MAX));
        let wanted = (chunk.bytes.len() - chunk.written).min(most);
        // Held over the write, so that two connections never pass more than the cut allows.
        let mut cut = self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = cut.as_ref().map_or(wanted, |cut| cut.allow(self.way, wanted));
        let written = match self.to.try_write(&chunk.bytes[chunk.written..chunk.written + allowed]) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(End::Reset),
        };
        let struck = cut.as_mut().is_some_and(|cut| cut.passed(self.way, written));
        let ending = if struck { cut.take().map(|cut| cut.ending) } else { None };
        drop(cut);
        chunk.written += written;
        if chunk.written == chunk.bytes.len() {
            self.queue.pop_front();
        }
        self.queued -= written;
        if let Some(rate) = bandwidth {
            let cost = Duration::from_secs_f64(written as f64 / rate as f64);
            self.next_write = self.next_write.max(Instant::now()) + cost;
        }
        self.shared.traffic.send_modify(|traffic| {
            match self.way {
                Way::ToBroker => traffic.to_broker += written as u64,
                Way::ToClient => traffic.to_client += written as u64,
            }
            traffic.cuts += u64::from(struck);
        });
        match ending {
            None => Ok(()),
            Some(Ending::Reset) => Err(End::Reset),
            Some(Ending::Close) => Err(End::Close),
            Some(Ending::Silence) => {
                self.silenced = true;
                Ok(())
            }
        }
    }
}
