//! As much of each protocol as it takes to leave something behind in a broker, and to find it again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends one inline Redis command and returns the first line of the answer, of a bulk string its text.
pub(crate) fn redis(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = connect(port);
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
    let first = line()?;
    if first.starts_with('$') && first != "$-1" { line() } else { Ok(first) }
}

/// Runs one SQL statement as `postgres` and returns everything the server answered, as lossy text.
pub(crate) fn postgres(port: u16, sql: &str) -> String {
    let mut stream = connect(port);
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let mut packet = (8 + parameters.len() as u32).to_be_bytes().to_vec();
    packet.extend(196_608_u32.to_be_bytes());
    packet.extend(parameters);
    stream.write_all(&packet).unwrap();
    read_until_ready(&mut stream);
    let mut query = vec![b'Q'];
    query.extend((4 + sql.len() as u32 + 1).to_be_bytes());
    query.extend(sql.as_bytes());
    query.push(0);
    stream.write_all(&query).unwrap();
    String::from_utf8_lossy(&read_until_ready(&mut stream)).into_owned()
}

fn read_until_ready(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).unwrap();
        let [kind, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        if kind == b'Z' {
            return all;
        }
        all.extend(body);
    }
}

/// Sends one Kafka request and returns the body of the response.
pub(crate) fn kafka<S: std::io::Read + std::io::Write>(stream: &mut S, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend([0, 0, 0, 7]);
    request.extend((-1_i16).to_be_bytes());
    request.extend(body);
    stream.write_all(&(request.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    stream.flush().unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut response = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut response).unwrap();
    response.split_off(4)
}

/// Creates a topic of one partition on all brokers it takes, and returns Kafka's error code.
pub(crate) fn create_topic(port: u16, name: &str, replicas: i16) -> i16 {
    let mut body = 1_i32.to_be_bytes().to_vec();
    string(&mut body, name);
    body.extend(1_i32.to_be_bytes());
    body.extend(replicas.to_be_bytes());
    body.extend([0; 8]);
    body.extend(10_000_i32.to_be_bytes());
    body.push(0);
    let response = kafka(&mut connect(port), 19, 2, &body);
    // Throttle time, one topic, its name, its error.
    let at = 4 + 4 + 2 + name.len();
    i16::from_be_bytes([response[at], response[at + 1]])
}

/// Everything that a node says of all topics and brokers, as lossy text.
pub(crate) fn metadata(port: u16) -> String {
    let response = kafka(&mut connect(port), 3, 4, &[0xff, 0xff, 0xff, 0xff, 0]);
    String::from_utf8_lossy(&response).into_owned()
}

/// The ports of the brokers that this listener advertises.
pub(crate) fn advertised_ports(port: u16) -> Vec<u16> {
    let response = kafka(&mut connect(port), 3, 4, &[0, 0, 0, 0, 0]);
    let count = i32::from_be_bytes(response[4..8].try_into().unwrap());
    let mut rest = &response[8..];
    let mut ports = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        rest = &rest[6 + length..];
        ports.push(u16::from_be_bytes([rest[2], rest[3]]));
        // The rack is null.
        rest = &rest[6..];
    }
    ports.sort_unstable();
    ports
}

pub(crate) fn string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as i16).to_be_bytes());
    body.extend(text.as_bytes());
}
