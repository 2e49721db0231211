//! PostgreSQL answers a startup packet with an authentication request once it takes connections.

use std::io::{self, Read as _, Write as _};

use super::{Answer, connect, protocol};

/// Ready when a startup packet leads to anything but an error; while it starts or recovers, it answers with one.
pub(crate) fn ask(port: u16) -> Answer {
    startup(port).map(|()| None).map_err(|error| error.to_string())
}

fn startup(port: u16) -> io::Result<()> {
    const PROTOCOL_3: u32 = 196_608;
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).map_err(|_| protocol("a packet too long"))?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.extend(PROTOCOL_3.to_be_bytes());
    packet.extend(parameters);
    let mut stream = connect(port)?;
    stream.write_all(&packet)?;
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    match kind {
        b'R' => Ok(()),
        b'E' => {
            let mut text = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4).min(4096)];
            stream.read_exact(&mut text)?;
            Err(protocol(String::from_utf8_lossy(&text).replace('\0', " ")))
        }
        other => Err(protocol(format!("the startup packet was answered with {:?}", char::from(other)))),
    }
}
