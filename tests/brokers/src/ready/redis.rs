//! Redis answers PING once its data is loaded.

use std::io::{self, BufRead as _, BufReader, Write as _};

use super::{Answer, connect, protocol};

/// Ready when PING is answered; an answer that asks for a password is one too.
pub(crate) fn ask(port: u16) -> Answer {
    ping(port).map(|()| None).map_err(|error| error.to_string())
}

fn ping(port: u16) -> io::Result<()> {
    let mut stream = connect(port)?;
    stream.write_all(b"PING\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.starts_with("+PONG") || line.starts_with("-NOAUTH") {
        return Ok(());
    }
    Err(protocol(format!("PING was answered with {:?}", line.trim_end())))
}
