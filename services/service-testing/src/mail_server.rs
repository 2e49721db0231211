//! A mail server that keeps what it is sent, and is as difficult as a test wants it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// An e-mail that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The address in the envelope.
    pub recipient: String,
    /// The lines of head and body.
    pub lines: Vec<String>,
}

impl Mail {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.lines.iter().take_while(|line| !line.is_empty());
        head.filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// Speaks SMTP on a port of its own until it goes away.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _connections: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    mails: Vec<Mail>,
    /// How many of the next recipients are told to come again.
    busy: usize,
    /// A recipient that there is not.
    unknown: Option<String>,
}

impl MailServer {
    /// Starts to listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, state.clone()));
        Self { address, state, _connections: connections }
    }

    /// What `SMTP_URL` would be.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Tells the next so many recipients to come again.
    pub fn be_busy(&self, recipients: usize) {
        self.state.lock().unwrap().busy = recipients;
    }

    /// Has no such recipient from now on.
    pub fn refuse(&self, recipient: &str) {
        self.state.lock().unwrap().unknown = Some(recipient.to_owned());
    }

    /// Has every recipient again.
    pub fn refuse_nobody(&self) {
        self.state.lock().unwrap().unknown = None;
    }

    /// What it has accepted.
    pub fn mails(&self) -> Vec<Mail> {
        self.state.lock().unwrap().mails.clone()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut conversations = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let state = state.clone();
        // A client that hangs up, or is killed, ends its conversation and nothing else.
        conversations.spawn(async move { converse(connection, &state).await.unwrap_or_default() });
        while conversations.try_join_next().is_some() {}
    }
}

async fn converse(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let (read, mut write) = connection.split();
    let mut lines = BufReader::new(read).lines();
    let mut recipient = String::new();
    write.write_all(b"220 test\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer = match line.as_str() {
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut mail = Mail { recipient: recipient.clone(), lines: Vec::new() };
                loop {
                    match lines.next_line().await? {
                        Some(line) if line == "." => break,
                        Some(line) => mail.lines.push(line),
                        None => return Ok(()),
                    }
                }
                state.lock().unwrap().mails.push(mail);
                "250 accepted"
            }
            "QUIT" => "221 bye",
            line => match line.strip_prefix("RCPT TO:<").and_then(|rest| rest.split_once('>')) {
                Some((to, _)) => {
                    recipient = to.to_owned();
                    state.lock().unwrap().answer_to(to)
                }
                None => "250 ok",
            },
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

impl State {
    fn answer_to(&mut self, recipient: &str) -> &'static str {
        if self.unknown.as_deref() == Some(recipient) {
            return "550 no such user";
        }
        match self.busy.checked_sub(1) {
            Some(left) => {
                self.busy = left;
                "451 come again"
            }
            None => "250 ok",
        }
    }
}
