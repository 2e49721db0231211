//! RabbitMQ opens its listeners last, and greets a client with `connection.start`.

use std::io::{self, Read as _, Write as _};

use super::{Answer, connect, protocol};

/// Ready when the protocol header is answered by `connection.start`, whose server properties tell the version.
pub(crate) fn ask(port: u16) -> Answer {
    handshake(port).map_err(|error| error.to_string())
}

fn handshake(port: u16) -> io::Result<Option<String>> {
    const METHOD_FRAME: u8 = 1;
    const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];
    let mut stream = connect(port)?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut header = [0; 7];
    stream.read_exact(&mut header)?;
    let [kind, _, _, size @ ..] = header;
    let size = u32::from_be_bytes(size) as usize;
    if kind != METHOD_FRAME || size > 1 << 20 {
        return Err(protocol("the answer is no AMQP 0-9-1 method"));
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload)?;
    if !payload.starts_with(&CONNECTION_START) {
        return Err(protocol("the answer is not connection.start"));
    }
    Ok(version(&payload))
}

/// The long string that follows the field name `version` in the server properties.
fn version(payload: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = payload.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let (length, rest) = payload[at..].split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
    String::from_utf8(text.to_vec()).ok()
}
