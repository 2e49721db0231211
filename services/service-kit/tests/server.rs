//! Serving, draining and telling about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use reqwest::StatusCode;
use service_kit::http::{self, Operations, ReadinessCheck};
use service_kit::telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);

/// A request has begun; it may go on.
#[derive(Default)]
struct Gate {
    begun: Notify,
    open: Notify,
}

async fn serve(app: Router) -> (String, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let server = tokio::spawn(http::serve(listener, app, stop.clone()));
    (address, stop, server)
}

#[tokio::test]
async fn what_has_begun_is_answered_after_the_stop() {
    let gate = Arc::new(Gate::default());
    let slow = |State(gate): State<Arc<Gate>>| async move {
        gate.begun.notify_one();
        gate.open.notified().await;
        "done"
    };
    let (address, stop, server) = serve(Router::new().route("/", get(slow)).with_state(gate.clone())).await;
    let request = tokio::spawn(reqwest::get(format!("http://{address}/")));
    tokio::time::timeout(DEADLINE, gate.begun.notified()).await.unwrap();

    stop.cancel();
    // The listener is closed as soon as the server notices.
    let refused = async { while TcpStream::connect(&address).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    assert!(!server.is_finished());

    gate.open.notify_one();
    let answer = tokio::time::timeout(DEADLINE, request).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    tokio::time::timeout(DEADLINE, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_stop() {
    let (address, stop, server) = serve(Router::new().route("/", get(async || "hello"))).await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.cancel();
    tokio::time::timeout(DEADLINE, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let (address, _stop, _server) = serve(Router::new().route("/", get(async || "hello"))).await;
    let request = reqwest::Client::new().get(format!("http://{address}/"));
    let answer = request.header("x-filler", "x".repeat(32 * 1024)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn readiness_tells_what_is_missing_and_ends_with_the_stop() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let check = {
        let broken = broken.clone();
        ReadinessCheck::new("broker", move || {
            let broken = broken.load(std::sync::atomic::Ordering::Relaxed);
            async move { if broken { Err("unavailable".to_owned()) } else { Ok(()) } }
        })
    };
    let advice = ReadinessCheck::new("advice", async || Err("not needed".to_owned())).advisory();
    let checks = vec![check, advice];
    // Draining begins before the server stops, so that a balancer sees it coming.
    let draining = CancellationToken::new();
    let operations =
        Operations { stop: draining.clone(), checks, metrics: telemetry::detached_metrics(), consumers: None };
    let (address, _stop, _server) = serve(http::app(None, operations)).await;
    let ready = async || {
        let answer = reqwest::get(format!("http://{address}/health/ready")).await.unwrap();
        (answer.status(), answer.json::<serde_json::Value>().await.unwrap())
    };

    let (status, body) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["checks"]["broker"], "unavailable");

    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    let (status, body) = ready().await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["checks"]["advice"], "not needed");

    draining.cancel();
    let (status, body) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["status"], "stopping");
    let alive = reqwest::get(format!("http://{address}/health/live")).await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK);
}
