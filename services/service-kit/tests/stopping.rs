//! A server that stops while clients keep asking: whoever is connected is answered, everybody else is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use service_kit::http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);
/// How many servers are stopped, and with how many clients of each kind.
const SERVERS: usize = 24;
const CLIENTS: usize = 16;
/// How long a handshake takes that is not ignored, at the most.
const HANDSHAKE: Duration = Duration::from_millis(50);

struct Server {
    address: String,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    end: tokio::task::JoinHandle<()>,
}

async fn start() -> Server {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let count = answered.clone();
    let handler = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        "done"
    };
    let end = tokio::spawn(http::serve(listener, Router::new().route("/", post(handler)), stop.clone()));
    Server { address, stop, answered, end }
}

/// A connection, unless it is refused.
async fn connect(address: &str) -> Option<TcpStream> {
    match TcpStream::connect(address).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            None
        }
    }
}

/// One request on this connection; the head of its answer.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").await.expect("a request is taken");
    let mut answer = String::new();
    while !answer.ends_with("done") {
        let mut bytes = [0; 512];
        let length = stream.read(&mut bytes).await.expect("a request is answered");
        assert!(length > 0, "a connection was closed upon a request: {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// A connection for each request, until there are no more; how many were answered.
async fn come_again(address: String) -> usize {
    let mut answered = 0;
    while let Some(mut stream) = connect(&address).await {
        ask(&mut stream).await;
        answered += 1;
    }
    answered
}

/// One request after the other on a connection, until its last; how many were answered.
async fn stay(address: String) -> usize {
    let Some(mut stream) = connect(&address).await else { return 0 };
    let mut answered = 1;
    while !ask(&mut stream).await.contains("connection: close") {
        answered += 1;
    }
    answered
}

async fn a_server_is_stopped_under_load() {
    let server = start().await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(come_again(server.address.clone()));
        clients.spawn(stay(server.address.clone()));
    }
    while server.answered.load(Ordering::Relaxed) < 4 * CLIENTS {
        tokio::task::yield_now().await;
    }
    server.stop.cancel();
    let answers = tokio::time::timeout(DEADLINE, clients.join_all()).await.expect("clients end with the server");
    tokio::time::timeout(DEADLINE, server.end).await.expect("the server ends").unwrap();
    assert_eq!(answers.iter().sum::<usize>(), server.answered.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_connected_is_answered() {
    let servers: JoinSet<()> = (0..SERVERS).map(|_| a_server_is_stopped_under_load()).collect();
    servers.join_all().await;
}

/// A request that is under way when the server stops, on a connection that was idle until then.
#[tokio::test]
async fn a_request_that_crosses_the_stop_is_answered() {
    let server = start().await;
    let mut stream = connect(&server.address).await.unwrap();
    assert!(!ask(&mut stream).await.contains("connection: close"));
    server.stop.cancel();
    // The server has seen the stop when nobody new gets through any more.
    while let Ok(Some(_)) = tokio::time::timeout(HANDSHAKE, connect(&server.address)).await {}
    assert!(ask(&mut stream).await.contains("connection: close"));
    // Nobody is left to wait for.
    tokio::time::timeout(DEADLINE, server.end).await.expect("the server ends").unwrap();
}
