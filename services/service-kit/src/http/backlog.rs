//! Closing a listener so that nobody who is connected to it is cut off.
//!
//! The kernel completes handshakes by itself and queues the connections. Closing a listener resets those in its queue,
//! and their clients have sent requests already. So the listener first stops to answer new handshakes, and is closed when
//! its queue is empty: who comes in between tries again a second later and is refused, as after the end.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

/// How long a handshake that has begun may take: a round trip within a data centre.
const HANDSHAKE: Duration = Duration::from_millis(10);

/// Takes what connected until now, handing it to `serve`, and closes the listener.
pub(super) async fn close(listener: TcpListener, mut serve: impl FnMut(TcpStream)) {
    if let Err(error) = ignore_handshakes(&listener) {
        // Connections of the last microseconds may be reset, as with any server.
        tracing::debug!(%error, "the listener takes handshakes to its end");
    }
    let end = Instant::now() + HANDSHAKE;
    while let Ok(Ok((stream, _))) = timeout_at(end, listener.accept()).await {
        serve(stream);
    }
}

/// Drops the packets that ask for a connection, and no others: a program for the kernel, in the instructions of its
/// classic packet filter.
#[cfg(target_os = "linux")]
fn ignore_handshakes(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::{SockFilter, SockRef};

    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where a TCP header has its flags, and two of them.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;

    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn ignore_handshakes(_: &TcpListener) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
