//! What a proxy does to what passes through it.

use std::time::Duration;

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What clients send.
    ToBroker,
    /// What the broker answers.
    ToClient,
    /// Both ways.
    Both,
}

impl Direction {
    fn includes(self, way: Way) -> bool {
        match self {
            Self::Both => true,
            Self::ToBroker => way == Way::ToBroker,
            Self::ToClient => way == Way::ToClient,
        }
    }
}

/// One of the two ways of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToBroker,
    ToClient,
}

/// How a connection ends that [`Faults::cut_after`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// RST to both ends.
    Reset,
    /// FIN to both ends.
    Close,
    /// Nothing more flows in the direction that was cut, and nobody is told. Other faults or none end this.
    Silence,
}

/// Faults of a proxy: none by default, any number together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    to_broker: Lane,
    to_client: Lane,
    pub(super) black_hole: bool,
    pub(super) refuse: bool,
    pub(super) cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) latency: Duration,
    /// Bytes per second.
    pub(super) bandwidth: Option<u64>,
    pub(super) stalled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) direction: Direction,
    pub(super) left: u64,
    pub(super) ending: Ending,
}

impl Cut {
    /// How many of `length` bytes may pass this way.
    pub(super) fn allow(&self, way: Way, length: usize) -> usize {
        if !self.direction.includes(way) {
            return length;
        }
        usize::try_from(self.left).unwrap_or(usize::MAX).min(length)
    }

    /// Counts what passed; true if that was the last of it.
    pub(super) fn passed(&mut self, way: Way, length: usize) -> bool {
        if !self.direction.includes(way) {
            return false;
        }
        self.left = self.left.saturating_sub(length as u64);
        self.left == 0
    }
}

impl Faults {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything arrives this much later, per direction. Order and throughput stay.
    #[must_use]
    pub fn latency(mut self, direction: Direction, latency: Duration) -> Self {
        self.each(direction, |lane| lane.latency = latency);
        self
    }

    /// No more than this many bytes per second on each connection; at least one.
    #[must_use]
    pub fn bandwidth(mut self, direction: Direction, bytes_per_second: u64) -> Self {
        self.each(direction, |lane| lane.bandwidth = Some(bytes_per_second.max(1)));
        self
    }

    /// Nothing is forwarded, and nobody is told: sockets stay open, senders see their buffers fill. In one direction this
    /// is a half-open connection. Once healed, what was held back flows on.
    #[must_use]
    pub fn stall(mut self, direction: Direction) -> Self {
        self.each(direction, |lane| lane.stalled = true);
        self
    }

    /// Bytes vanish both ways, and new connections are accepted but lead nowhere. Connections that were touched by this
    /// are reset once it ends, as their streams have holes.
    #[must_use]
    pub fn black_hole(mut self) -> Self {
        self.black_hole = true;
        self
    }

    /// New connections are refused, as if nothing listened. Open ones stay.
    #[must_use]
    pub fn refuse(mut self) -> Self {
        self.refuse = true;
        self
    }

    /// Once, after exactly this many more bytes in that direction, counted over all connections: the one that carries the
    /// last of them ends. Then the cut is used up, and the other faults go on. With 0 bytes, the next byte is not passed.
    #[must_use]
    pub fn cut_after(mut self, direction: Direction, bytes: u64, ending: Ending) -> Self {
        self.cut = Some(Cut { direction, left: bytes, ending });
        self
    }

    pub(super) fn lane(&self, way: Way) -> Lane {
        match way {
            Way::ToBroker => self.to_broker,
            Way::ToClient => self.to_client,
        }
    }

    fn each(&mut self, direction: Direction, change: impl Fn(&mut Lane)) {
        if direction.includes(Way::ToBroker) {
            change(&mut self.to_broker);
        }
        if direction.includes(Way::ToClient) {
            change(&mut self.to_client);
        }
    }
}
