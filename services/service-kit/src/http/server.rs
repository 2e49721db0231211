//! Serving connections until told to stop, then draining them.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::process::StartError;

/// The longest that a client may take over the head of a request, idle time of a kept connection
/// included.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// The largest request head.
const MAX_HEADER: usize = 16 * 1024;

/// The longest that requests in flight may take once the process is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// How long to wait when the system cannot take another connection (out of files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes the address to serve on.
///
/// # Errors
/// The address is taken or not one of this machine.
pub fn bind(address: SocketAddr) -> BoxFuture<'static, Result<TcpListener, StartError>> {
    Box::pin(async move { TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source }) })
}

/// Serves `app` until `stop` is cancelled, then answers what has begun, for at most 25 seconds.
pub fn serve(listener: TcpListener, app: Router, stop: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(accept_until(listener, app, stop))
}

async fn accept_until(listener: TcpListener, app: Router, stop: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving HTTP");
    }
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(MAX_HEADER);
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stop.cancelled());

    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stopped => break,
            stream = accept(&listener) => stream,
        };
        let service = TowerToHyperService::new(app.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }

    drop(listener);
    if tokio::time::timeout(DRAIN_DEADLINE, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight after {} s", DRAIN_DEADLINE.as_secs());
    }
}

/// The next connection; an error of one connection is no reason to stop taking others.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and should not wait for more.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
