//! The proxy, between two plain sockets of this test.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use test_brokers::{Direction, Ending, Faults, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
/// Long enough to show that something does not happen.
const WHILE: Duration = Duration::from_millis(150);

struct Pair {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn pair() -> Pair {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    Pair { proxy, listener, client, server }
}

async fn receive(stream: &mut TcpStream, expected: &[u8]) {
    let mut buffer = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut buffer)).await.expect("nothing came").unwrap();
    assert_eq!(buffer, expected);
}

async fn receive_nothing(stream: &mut TcpStream) {
    assert!(timeout(WHILE, stream.read_u8()).await.is_err(), "something came");
}

/// The kind of error or the end that the next read shows.
async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    timeout(SOON, stream.read(&mut [0; 64])).await.expect("neither bytes nor an end").map_err(|error| error.kind())
}

#[tokio::test]
async fn without_faults_bytes_and_ends_pass_both_ways() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    let much = vec![7; 3_000_000];
    let (sent, ()) = tokio::join!(client.write_all(&much), receive(&mut server, &much));
    sent.unwrap();
    server.write_all(b"answer").await.unwrap();
    receive(&mut client, b"answer").await;
    client.shutdown().await.unwrap();
    assert_eq!(end(&mut server).await, Ok(0));
    server.write_all(b"after the half-close").await.unwrap();
    receive(&mut client, b"after the half-close").await;
    drop(server);
    assert_eq!(end(&mut client).await, Ok(0));
    let traffic = proxy.when(SOON, |traffic| traffic.open == 0).await.unwrap();
    assert_eq!((traffic.accepted, traffic.to_broker, traffic.to_client), (1, 3_000_000, 26));
}

#[tokio::test]
async fn latency_delays_one_direction_and_keeps_order() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().latency(Direction::ToClient, Duration::from_millis(200)));
    let sent = Instant::now();
    server.write_all(b"one").await.unwrap();
    client.write_all(b"ping").await.unwrap();
    receive(&mut server, b"ping").await;
    let undelayed = sent.elapsed();
    server.write_all(b"two").await.unwrap();
    receive(&mut client, b"onetwo").await;
    assert!(sent.elapsed() >= Duration::from_millis(200), "{:?}", sent.elapsed());
    assert!(undelayed < Duration::from_millis(200), "the other direction took {undelayed:?}");
}

#[tokio::test]
async fn bandwidth_bounds_the_rate() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().bandwidth(Direction::ToBroker, 100_000));
    let bytes = vec![1; 50_000];
    let start = Instant::now();
    client.write_all(&bytes).await.unwrap();
    receive(&mut server, &bytes).await;
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_reset_reaches_both_ends_and_new_connections_work() {
    let Pair { mut client, mut server, proxy, listener } = pair().await;
    proxy.reset();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut server).await, Err(ErrorKind::ConnectionReset));
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"again").await.unwrap();
    receive(&mut server, b"again").await;
}

#[tokio::test]
async fn a_stall_holds_back_one_direction_until_it_is_healed() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().stall(Direction::ToClient));
    server.write_all(b"held").await.unwrap();
    client.write_all(b"through").await.unwrap();
    receive(&mut server, b"through").await;
    receive_nothing(&mut client).await;
    proxy.heal();
    receive(&mut client, b"held").await;
}

#[tokio::test]
async fn a_stalled_connection_can_be_reset() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().stall(Direction::Both));
    server.write_all(b"held").await.unwrap();
    proxy.reset();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_black_hole_swallows_and_resets_what_it_touched() {
    let Pair { mut client, mut server, proxy, listener } = pair().await;
    proxy.set(Faults::new().black_hole());
    client.write_all(b"lost").await.unwrap();
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    late.write_all(b"nowhere").await.unwrap();
    receive_nothing(&mut server).await;
    assert!(timeout(WHILE, listener.accept()).await.is_err(), "a connection came through");
    receive_nothing(&mut late).await;
    proxy.heal();
    assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut late).await, Err(ErrorKind::ConnectionReset));
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"again").await.unwrap();
    receive(&mut server, b"again").await;
}

#[tokio::test]
async fn a_cut_strikes_once_after_exactly_so_many_bytes_of_its_direction() {
    for ending in [Ending::Reset, Ending::Close] {
        let Pair { mut client, mut server, proxy, listener } = pair().await;
        proxy.set(Faults::new().cut_after(Direction::ToClient, 5, ending));
        client.write_all(b"uncounted").await.unwrap();
        receive(&mut server, b"uncounted").await;
        server.write_all(b"12345678").await.unwrap();
        proxy.when(SOON, |traffic| traffic.cuts == 1).await.expect("no cut");
        assert_eq!(proxy.traffic().to_client, 5);
        if ending == Ending::Close {
            receive(&mut client, b"12345").await;
            assert_eq!(end(&mut client).await, Ok(0));
        } else {
            // What arrived before a reset may be thrown away by the kernel, so only the end is sure.
            let mut last = end(&mut client).await;
            while matches!(last, Ok(length) if length > 0) {
                last = end(&mut client).await;
            }
            assert_eq!(last, Err(ErrorKind::ConnectionReset));
        }
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"12345678").await.unwrap();
        receive(&mut client, b"12345678").await;
    }
}

#[tokio::test]
async fn a_cut_in_silence_leaves_the_connection_half_open() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().cut_after(Direction::ToClient, 2, Ending::Silence));
    server.write_all(b"1234").await.unwrap();
    receive(&mut client, b"12").await;
    receive_nothing(&mut client).await;
    client.write_all(b"through").await.unwrap();
    receive(&mut server, b"through").await;
    proxy.heal();
    receive(&mut client, b"34").await;
}

#[tokio::test]
async fn refused_connections_meet_a_closed_port_and_open_ones_stay() {
    let Pair { mut client, mut server, proxy, .. } = pair().await;
    proxy.set(Faults::new().refuse());
    let deadline = Instant::now() + SOON;
    // A connection that the closing listener had not accepted yet is reset instead.
    while TcpStream::connect(proxy.address()).await.err().map(|error| error.kind())
        != Some(ErrorKind::ConnectionRefused)
    {
        assert!(Instant::now() < deadline, "connections are not refused");
    }
    client.write_all(b"open").await.unwrap();
    receive(&mut server, b"open").await;
    proxy.heal();
    while TcpStream::connect(proxy.address()).await.is_err() {
        assert!(Instant::now() < deadline, "connections are still refused");
    }
}

#[tokio::test]
async fn a_client_of_a_dead_broker_is_reset() {
    let Pair { listener, proxy, client, server } = pair().await;
    drop((listener, client, server));
    // The reset may be faster than the client's own view of the connection.
    let ended = match TcpStream::connect(proxy.address()).await {
        Ok(mut client) => end(&mut client).await,
        Err(error) => Err(error.kind()),
    };
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
}
