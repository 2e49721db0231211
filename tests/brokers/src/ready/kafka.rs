//! Kafka is ready when a node lists itself: it appears in its own metadata only once the controller unfenced it.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use super::{Answer, connect, protocol};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
/// The newest version of a metadata request without compact encodings that still has all that is asked here.
const METADATA_VERSION: i16 = 4;

/// Ready when the node at this port lists the node of that id, that is itself.
pub(crate) fn node(port: u16, id: i32) -> Answer {
    match brokers(port) {
        Ok(ids) if ids.contains(&id) => Ok(None),
        Ok(ids) => Err(format!("node {id} is not among the brokers {ids:?} yet")),
        Err(error) => Err(error.to_string()),
    }
}

/// Ready when the node at this port lists `count` brokers.
pub(crate) fn cluster(port: u16, count: usize) -> Answer {
    match brokers(port) {
        Ok(ids) if ids.len() >= count => Ok(None),
        Ok(ids) => Err(format!("{} of {count} brokers are there", ids.len())),
        Err(error) => Err(error.to_string()),
    }
}

fn brokers(port: u16) -> io::Result<Vec<i32>> {
    let mut stream = connect(port)?;
    let mut versions = Reader(exchange(&mut stream, API_VERSIONS, 0, &[])?);
    let error = versions.i16()?;
    if error != 0 {
        return Err(protocol(format!("ApiVersions was answered with error {error}")));
    }
    let count = versions.i32()?;
    let mut supported = false;
    for _ in 0..count {
        let (key, least, most) = (versions.i16()?, versions.i16()?, versions.i16()?);
        supported |= key == METADATA && (least..=most).contains(&METADATA_VERSION);
    }
    if !supported {
        return Err(protocol(format!("it does not know metadata requests of version {METADATA_VERSION}")));
    }
    // No topics, and none to be created.
    let mut metadata = Reader(exchange(&mut stream, METADATA, METADATA_VERSION, &[0, 0, 0, 0, 0])?);
    let _throttle_ms = metadata.i32()?;
    let count = metadata.i32()?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(metadata.i32()?);
        metadata.skip_string()?;
        let _port = metadata.i32()?;
        metadata.skip_string()?;
    }
    Ok(ids)
}

fn exchange(stream: &mut TcpStream, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    const CORRELATION: i32 = 7;
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    // No client id.
    request.extend((-1_i16).to_be_bytes());
    request.extend(body);
    let length = i32::try_from(request.len()).map_err(|_| protocol("a request too long"))?;
    stream.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| protocol("a negative length"))?;
    if length > 1 << 24 {
        return Err(protocol("the answer is no Kafka response"));
    }
    let mut response = vec![0; length];
    stream.read_exact(&mut response)?;
    let mut reader = Reader(response);
    if reader.i32()? != CORRELATION {
        return Err(protocol("the answer is to another request"));
    }
    Ok(reader.0)
}

struct Reader(Vec<u8>);

impl Reader {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let taken = *self.0.first_chunk::<N>().ok_or_else(|| protocol("the response is too short"))?;
        self.0.drain(..N);
        Ok(taken)
    }

    fn i16(&mut self) -> io::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A nullable string: null has the length -1.
    fn skip_string(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        if self.0.len() < length {
            return Err(protocol("the response is too short"));
        }
        self.0.drain(..length);
        Ok(())
    }
}
