//! Whether a broker is ready, asked in its own protocol: an open port alone says little.

mod amqp;
mod kafka;
mod postgres;
mod redis;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) use self::amqp::ask as rabbitmq;
pub(crate) use self::kafka::{cluster as kafka_cluster, node as kafka_node};
pub(crate) use self::postgres::ask as postgres;
pub(crate) use self::redis::ask as redis;

/// One question's patience. A broker that accepts and then says nothing is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// `Ok` when ready, with the version if the protocol tells it; else what stood in the way.
pub(crate) type Answer = Result<Option<String>, String>;

/// Whether somebody listens there at all: for what is opened after the door that is asked in its protocol.
#[cfg(feature = "tls")]
pub(crate) fn open(port: u16) -> Answer {
    connect(port).map(|_| None).map_err(|error| error.to_string())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn protocol(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
