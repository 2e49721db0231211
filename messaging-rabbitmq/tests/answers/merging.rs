//! [`Merging`]: a way to the broker on which confirms are gathered into one word for many.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

/// Type and channel of a frame, and how long it is.
const HEAD: usize = 7;
const METHOD: u8 = 1;
/// `basic.ack`: its class and method.
const ACK: [u8; 4] = [0, 60, 0, 80];

pub(crate) struct Merging {
    pub(crate) port: u16,
    many: Arc<AtomicU64>,
}

impl Merging {
    /// Passes on what comes for the broker on this port.
    pub(crate) async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, many) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(1)));
        let shared = many.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
                tokio::spawn(pass(client, server, shared.clone()));
            }
        });
        Self { port, many }
    }

    /// From now on one word confirms so many messages.
    pub(crate) fn merge(&self, many: u64) {
        self.many.store(many, Ordering::SeqCst);
    }
}

/// Until one side ends.
async fn pass(client: TcpStream, server: TcpStream, many: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let down = async {
        let mut passed = 0;
        loop {
            let mut frame = vec![0; HEAD];
            from_server.read_exact(&mut frame).await?;
            let length = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
            frame.resize(HEAD + length + 1, 0);
            from_server.read_exact(&mut frame[HEAD..]).await?;
            if frame[0] == METHOD && frame[HEAD..].starts_with(&ACK) {
                let (tag, multiple) = frame[HEAD + 4..].split_at_mut(8);
                let tag = u64::from_be_bytes(tag.try_into().unwrap());
                if tag < passed + many.load(Ordering::SeqCst) {
                    continue;
                }
                (passed, multiple[0]) = (tag, 1);
            }
            to_client.write_all(&frame).await?;
        }
    };
    let _: std::io::Result<()> = tokio::select! { ended = up => ended, ended = down => ended };
}
