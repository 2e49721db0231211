//! A service's program as a child process.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How much of a program's log a failing test shows.
const LAST_LINES: usize = 50;

/// A running program; it is killed when this value goes away.
#[derive(Debug)]
pub struct Program {
    path: String,
    child: Child,
    lines: UnboundedReceiver<String>,
    log: String,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it wrote, to standard output and to standard error.
    pub log: String,
}

impl Program {
    /// Starts a program with these arguments and no environment but this.
    pub fn start<V: AsRef<OsStr>>(
        path: &str,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {path}: {error}"));
        // Read all the time: a program whose pipe is full would stand still.
        let (sender, lines) = unbounded_channel();
        tokio::spawn(forward(child.stdout.take().unwrap(), sender.clone()));
        tokio::spawn(forward(child.stderr.take().unwrap(), sender));
        Self { path: path.to_owned(), child, lines, log: String::new() }
    }

    async fn next_line(&mut self) -> Option<String> {
        let line = self.lines.recv().await?;
        self.log.push_str(&line);
        self.log.push('\n');
        Some(line)
    }

    /// Waits for a line of the log with this text in it, and answers the line.
    pub async fn line_with(&mut self, text: &str) -> String {
        let found = crate::soon(text, async {
            while let Some(line) = self.next_line().await {
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        })
        .await;
        found.unwrap_or_else(|| panic!("ended without saying `{text}`:\n{}", self.log))
    }

    /// Waits until it says that it serves HTTP, and answers the address.
    pub async fn address(&mut self) -> String {
        self.address_after("serving HTTP").await
    }

    /// Waits for a line of the log with this text in it, and answers the address that it names.
    pub async fn address_after(&mut self, text: &str) -> String {
        let line = self.line_with(text).await;
        let (_, address) = line.split_once("address=").unwrap_or_else(|| panic!("no address in: {line}"));
        address.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends SIGSTOP: its clock stops, its connections stay.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL, and waits for the end.
    pub async fn killed(self) -> Ended {
        self.kill();
        self.ended().await
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the program runs");
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ended {
        crate::soon("the end of the program", async {
            while self.next_line().await.is_some() {}
            let status = self.child.wait().await.unwrap();
            Ended { status, log: std::mem::take(&mut self.log) }
        })
        .await
    }
}

/// Of a test that fails, the programs that still run say what they saw last.
impl Drop for Program {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        while let Ok(line) = self.lines.try_recv() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        let lines: Vec<_> = self.log.lines().collect();
        let last = lines.len().saturating_sub(LAST_LINES);
        eprintln!("the last lines of {}:\n{}", self.path, lines[last..].join("\n"));
    }
}

async fn forward(stream: impl AsyncRead + Unpin, sender: UnboundedSender<String>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if sender.send(line).is_err() {
            return;
        }
    }
}
