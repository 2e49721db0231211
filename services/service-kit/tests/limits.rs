//! What a client may not do, and who may do what: limits, the API's key, and operations on a port of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use reqwest::{Method, StatusCode};
use service_kit::http::{self, Api, HttpSettings, Operations, ReadinessCheck};
use service_kit::{Environment, telemetry};
use service_testing::{Answer, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use utoipa_axum::routes;

const DEADLINE: Duration = Duration::from_secs(30);
const KEY: &str = "a-key-of-24-characters!!";

/// Answers what it was told.
#[utoipa::path(post, path = "/echo/", request_body = String, responses((status = 200)))]
async fn echo(body: String) -> String {
    body
}

fn operations() -> Operations {
    let checks = vec![ReadinessCheck::new("broker", async || Err("unavailable".to_owned()))];
    Operations { stop: CancellationToken::new(), checks, metrics: telemetry::detached_metrics(), consumers: None }
}

/// A process with an API, on free ports.
async fn start(settings: &[(&str, &str)]) -> (String, Option<String>) {
    let all = [("LISTEN_ADDR", "127.0.0.1:0")].iter().chain(settings).copied();
    let settings = HttpSettings::from_environment(&Environment::fixed(all)).unwrap();
    let listeners = settings.bind().await.unwrap();
    let addresses = listeners.addresses().unwrap();
    let api = Api::new("Echo", "1").routes(routes!(echo)).with_state(());
    tokio::spawn(listeners.serve(Some(api), operations(), CancellationToken::new()));
    (addresses.0.to_string(), addresses.1.map(|address| address.to_string()))
}

fn client(address: &str) -> Client {
    Client::new(address)
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (address, _) = start(&[]).await;
    let sent = client(&address).request(Method::POST, "/echo").body("x".repeat(64 * 1024 + 1));
    Answer::to(sent).await.is_problem(StatusCode::PAYLOAD_TOO_LARGE);
    let whole = client(&address).request(Method::POST, "/echo").body("x".repeat(64 * 1024)).send().await.unwrap();
    assert_eq!(whole.text().await.unwrap().len(), 64 * 1024);
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_is_cut_off() {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", post(async || "hello"));
    let limit = Duration::from_millis(300);
    tokio::spawn(http::serve_within(listener, app, limit, CancellationToken::new()));

    let mut connection = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = connection.split();
    let begun = Instant::now();
    write.write_all(b"POST / HTTP/1.1\r\nhost: test\r\n").await.unwrap();
    let mut answer = Vec::new();
    let closed = async {
        let dribble = async {
            // Each byte comes in time for a limit on silence; the limit is on the whole head.
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = dribble => {}
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
    assert!(begun.elapsed() >= limit);
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_api_with_a_key_wants_to_see_it() {
    let (address, _) = start(&[("API_KEY", KEY)]).await;
    let request = || client(&address).request(Method::POST, "/echo").body("hello");
    for wrong in [request(), request().bearer_auth("a-key-of-24-characters!?"), request().header("x-api-key", "")] {
        let answer = Answer::to(wrong).await;
        answer.is_problem(StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for right in [request().bearer_auth(KEY), request().header("x-api-key", KEY)] {
        assert_eq!(right.send().await.unwrap().text().await.unwrap(), "hello");
    }
    // What tells how the process is, and what the API is like, is for everybody.
    let health = client(&address).get("/health/live").await;
    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(client(&address).get("/openapi.json").await.status, StatusCode::OK);
    client(&address).get("/nowhere").await.is_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_short_key_is_refused_and_not_shown() {
    let environment = Environment::fixed([("API_KEY", "hunter2")]);
    let error = HttpSettings::from_environment(&environment).unwrap_err().to_string();
    assert_eq!(error, "API_KEY: expected at least 16 visible characters of ASCII");
}

#[tokio::test]
async fn operations_are_on_a_port_of_their_own() {
    let (public, admin) = start(&[("ADMIN_LISTEN_ADDR", "127.0.0.1:0")]).await;
    let (public, admin) = (client(&public), client(&admin.unwrap()));
    public.get("/metrics").await.is_problem(StatusCode::NOT_FOUND);
    let verdict = public.get("/health/ready").await;
    assert_eq!(verdict.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(verdict.body.get("checks").is_none(), "{}", verdict.body);
    assert_eq!(public.get("/health/live").await.status, StatusCode::OK);

    assert_eq!(admin.request(Method::GET, "/metrics").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(admin.get("/health/ready").await.body["checks"]["broker"], "unavailable");
    admin
        .request(Method::POST, "/echo")
        .send()
        .await
        .map(|answer| assert_eq!(answer.status(), StatusCode::NOT_FOUND))
        .unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_by_its_setting() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [("LISTEN_ADDR", "127.0.0.1:0"), ("ADMIN_LISTEN_ADDR", address.as_str())];
    let settings = HttpSettings::from_environment(&Environment::fixed(settings)).unwrap();
    let error = settings.bind().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("ADMIN_LISTEN_ADDR: cannot listen on {address}: ")), "{error}");
}
