//! One client's connection through a proxy, from accept to its end.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::faults::Way;
use super::pump::{End, Pump};
use super::{Control, Shared};

/// How long the broker may take to accept, and how long a closed connection is read on so that it ends with a FIN.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection; counted as open while it lives.
pub(super) struct Connection {
    shared: Arc<Shared>,
    control: watch::Receiver<Control>,
    resets: u64,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.traffic.send_modify(|traffic| {
            traffic.accepted += 1;
            traffic.open += 1;
        });
        let control = shared.control.subscribe();
        let resets = control.borrow().resets;
        Self { shared, control, resets }
    }

    pub(super) async fn run(mut self, client: TcpStream) {
        if self.control.borrow().faults.black_hole {
            self.swallow(&client).await;
            return reset(&client);
        }
        let upstream = timeout(PATIENCE, TcpStream::connect(self.shared.upstream)).await;
        let Ok(Ok(upstream)) = upstream else { return reset(&client) };
        // A proxy must not add Nagle's delay to the one it is told to add; failing that it is merely slower.
        let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
        match self.forward(&client, &upstream).await {
            Ok(()) => {}
            Err(End::Reset) => {
                reset(&client);
                reset(&upstream);
            }
            Err(End::Close) => {
                tokio::join!(close(&client), close(&upstream));
            }
        }
    }

    async fn forward(&self, client: &TcpStream, upstream: &TcpStream) -> Result<(), End> {
        let there = Pump::new(Way::ToBroker, client, upstream, &self.shared, self.control.clone(), self.resets);
        let back = Pump::new(Way::ToClient, upstream, client, &self.shared, self.control.clone(), self.resets);
        tokio::try_join!(there.run(), back.run()).map(|_| ())
    }

    /// Accepted in a black hole: reads and forgets until that ends, someone resets it, or the client leaves.
    async fn swallow(&mut self, client: &TcpStream) {
        let resets = self.resets;
        let over = self.control.wait_for(|control| !control.faults.black_hole || control.resets != resets);
        tokio::select! {
            _ = over => {}
            () = drain(client) => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.traffic.send_modify(|traffic| traffic.open -= 1);
    }
}

/// Makes the socket end with RST when it is dropped.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// FIN, then whatever still comes is read: a socket dropped with unread bytes would end with RST.
async fn close(stream: &TcpStream) {
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
    let _ = timeout(PATIENCE, drain(stream)).await;
}

async fn drain(stream: &TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
