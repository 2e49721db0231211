//! A TCP proxy that harms what passes through it, switchable while connections are open.

mod connection;
mod faults;
mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::faults::{Direction, Ending, Faults};

use self::connection::Connection;
use self::faults::Cut;
use crate::error::Error;
use crate::ports::Port;

/// How soon a listener is tried again that failed.
const RETRY: Duration = Duration::from_millis(10);

/// What has passed through a proxy so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes handed to the broker.
    pub to_broker: u64,
    /// Bytes handed to clients.
    pub to_client: u64,
    /// How often [`Faults::cut_after`] struck.
    pub cuts: u64,
}

/// A TCP proxy on a port of its own in front of one address.
///
/// It runs on a thread of its own, so it outlives the runtime of the test that made it. Dropping it closes its port and
/// all its connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the proxy and its connections share.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    control: watch::Sender<Control>,
    traffic: watch::Sender<Traffic>,
    cut: Mutex<Option<Cut>>,
}

/// What connections obey: the faults, and how often [`Proxy::reset`] was called.
#[derive(Clone, Debug, Default)]
struct Control {
    faults: Faults,
    resets: u64,
}

impl Proxy {
    /// A proxy without faults in front of this address.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(upstream: SocketAddr) -> Result<Self, Error> {
        Self::start_on(Port::reserve()?, upstream)
    }

    pub(crate) fn start_on(port: Port, upstream: SocketAddr) -> Result<Self, Error> {
        let runtime = runtime()?;
        let shared = Arc::new(Shared {
            upstream,
            control: watch::Sender::default(),
            traffic: watch::Sender::default(),
            cut: Mutex::new(None),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let listener = {
            let _runtime = runtime.enter();
            listen(address)?
        };
        let accepting = runtime.spawn(accept(address, listener, Arc::clone(&shared)));
        Ok(Self { port, shared, accepting })
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// From now on these faults, on open connections too, in place of those before.
    pub fn set(&self, faults: Faults) {
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = faults.cut;
        self.shared.control.send_modify(|control| control.faults = faults);
    }

    /// No faults any more. What was held back flows; connections that lost bytes in a black hole are reset.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Resets every open connection (RST to both ends). New ones are welcome.
    pub fn reset(&self) {
        self.shared.control.send_modify(|control| control.resets += 1);
    }

    /// What has passed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        *self.shared.traffic.borrow()
    }

    /// Waits until what has passed is as asked; `None` if the deadline comes first.
    pub async fn when(&self, limit: Duration, asked: impl FnMut(&Traffic) -> bool) -> Option<Traffic> {
        let mut traffic = self.shared.traffic.subscribe();
        match tokio::time::timeout(limit, traffic.wait_for(asked)).await {
            Ok(Ok(traffic)) => Some(*traffic),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts as long as the faults allow it; the listener is closed while they refuse connections.
async fn accept(address: SocketAddr, first: TcpListener, shared: Arc<Shared>) {
    let mut control = shared.control.subscribe();
    let mut listener = Some(first);
    // Dropped with this task, which ends all connections.
    let mut connections = JoinSet::new();
    loop {
        let refuse = control.borrow_and_update().faults.refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = listen(address).ok();
        }
        tokio::select! {
            changed = control.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            client = next(listener.as_ref()) => {
                let connection = Connection::new(Arc::clone(&shared));
                connections.spawn(connection.run(client));
            }
            Some(_) = connections.join_next() => {}
            // The port is ours, yet should it not be had at once, it will be soon.
            () = tokio::time::sleep(RETRY), if listener.is_none() && !refuse => {}
        }
    }
}

/// The next client; never one while there is no listener. A failed accept is the client's loss alone.
async fn next(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = || Error::io(format!("listening on {address}"));
    let listener = std::net::TcpListener::bind(address).map_err(failed())?;
    listener.set_nonblocking(true).map_err(failed())?;
    TcpListener::from_std(listener).map_err(failed())
}

/// One runtime for all proxies of the process: a test's own runtime ends with the test, a shared broker does not.
fn runtime() -> Result<tokio::runtime::Handle, Error> {
    static RUNTIME: Mutex<Option<tokio::runtime::Handle>> = Mutex::new(None);
    let mut handle = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = handle.as_ref() {
        return Ok(handle.clone());
    }
    let failed = || Error::io("starting the proxies' thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
    let made = handle.insert(runtime.handle().clone()).clone();
    let forever = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("test-brokers-proxy".into()).spawn(forever).map_err(failed())?;
    Ok(made)
}
