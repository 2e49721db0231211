//! Serving connections until told to stop, then draining them.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backlog;
use crate::BoxFuture;
use crate::process::StartError;
use crate::settings::Setting;

/// The longest that a client may take over the head of a request, idle time of a kept connection
/// included.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// The largest request head.
const MAX_HEADER: usize = 16 * 1024;

/// How long a connection may be idle once the process is told to stop: longer than a request is on its way.
const IDLE_DEADLINE: Duration = Duration::from_millis(500);

/// The longest that requests in flight may take once the process is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// How long to wait when the system cannot take another connection (out of files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes the address to serve on, which `LISTEN_ADDR` names.
///
/// # Errors
/// The address is taken or not one of this machine.
pub fn bind(address: SocketAddr) -> BoxFuture<'static, Result<TcpListener, StartError>> {
    bind_for(super::LISTEN_ADDR, address)
}

/// Takes the address to serve on, which this setting names.
///
/// # Errors
/// The address is taken or not one of this machine; the error names the setting.
pub fn bind_for(setting: Setting, address: SocketAddr) -> BoxFuture<'static, Result<TcpListener, StartError>> {
    let setting = setting.name();
    Box::pin(async move {
        TcpListener::bind(address).await.map_err(|source| StartError::Listen { setting, address, source })
    })
}

/// Serves `app` until `stop` is cancelled, then answers what has begun, for at most 25 seconds.
pub fn serve(listener: TcpListener, app: Router, stop: CancellationToken) -> BoxFuture<'static, ()> {
    serve_within(listener, app, HEADER_DEADLINE, stop)
}

/// The same with another limit on the time that a client may take over the head of a request, idle time of a kept
/// connection included.
pub fn serve_within(
    listener: TcpListener,
    app: Router,
    head_deadline: Duration,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving HTTP");
    }
    Box::pin(accept_until(listener, app, head_deadline, stop))
}

/// Serves the operator's pages, beside what is served to everybody.
pub(super) fn serve_admin(listener: TcpListener, app: Router, stop: CancellationToken) -> BoxFuture<'static, ()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving operations");
    }
    Box::pin(accept_until(listener, app, HEADER_DEADLINE, stop))
}

async fn accept_until(listener: TcpListener, app: Router, head_deadline: Duration, stop: CancellationToken) {
    let connections = Connections::new(app, head_deadline, stop.clone());
    let mut stopped = pin!(stop.cancelled());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            stream = accept(&listener) => connections.serve(stream),
        }
    }
    backlog::close(listener, |stream| connections.serve(stream)).await;
    connections.drain().await;
}

/// Connections that are open.
///
/// A request may be on its way on a connection that looks idle, and closing it would leave the client in doubt. So from the
/// stop on each answer says that it is the connection's last, and those that are asked nothing any more are closed a while
/// later.
struct Connections {
    http: hyper::server::conn::http1::Builder,
    app: Router,
    open: TaskTracker,
    /// Cancelled when idle connections are to be closed.
    quiet: CancellationToken,
}

impl Connections {
    fn new(app: Router, head_deadline: Duration, stop: CancellationToken) -> Self {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(head_deadline).max_buf_size(MAX_HEADER);
        let app = app.layer(from_fn_with_state(stop, last_answer));
        Self { http, app, open: TaskTracker::new(), quiet: CancellationToken::new() }
    }

    fn serve(&self, stream: TcpStream) {
        // Answers are small and should not wait for more.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.app.clone());
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let quiet = self.quiet.clone();
        self.open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = quiet.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }

    async fn drain(self) {
        self.open.close();
        if timeout(IDLE_DEADLINE, self.open.wait()).await.is_ok() {
            return;
        }
        self.quiet.cancel();
        if timeout(DRAIN_DEADLINE, self.open.wait()).await.is_err() {
            tracing::warn!("requests were still in flight after {} s", DRAIN_DEADLINE.as_secs());
        }
    }
}

/// Tells the client to send its next request elsewhere, once the process is told to stop.
async fn last_answer(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if stop.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The next connection; an error of one connection is no reason to stop taking others.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
