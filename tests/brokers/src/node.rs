//! One broker process: started until it is ready, stopped, killed, frozen and started again on the same port and data.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{run, run_marked};
use crate::error::{Error, log_tail};
use crate::launch::Launch;
use crate::ports::Port;
use crate::process::{GLANCE, Process};
use crate::ready::Answer;
use crate::watchdog::Watchdog;

/// How long a graceful stop may take before it counts as failed and the node is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Asks a broker whether it is ready.
pub(crate) type Probe = Arc<dyn Fn() -> Answer + Send + Sync>;

/// What a node is made of.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) folder: TempDir,
    pub(crate) ports: Vec<Port>,
    pub(crate) launch: Launch,
    pub(crate) stop: Signal,
    pub(crate) probe: Probe,
    pub(crate) limit: Duration,
}

/// One broker process with its own folder and ports.
///
/// Every operation runs on a thread of its own and finishes even if its future is dropped. Dropping the node kills the
/// process and removes its folder; so does the end of the test process, however it ends.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    mark: String,
    container: String,
    log: PathBuf,
    state: Mutex<State>,
}

struct State {
    run: Run,
    watchdog: Option<Watchdog>,
}

enum Run {
    Down,
    Up(Process),
    Frozen(Process),
}

impl Node {
    pub(crate) fn new(plan: Plan) -> Result<Self, Error> {
        let token = format!("{}-{}-{:08x}", plan.name, std::process::id(), fastrand::u32(..));
        let mark = format!("TEST_BROKERS_NODE={token}");
        let container = format!("test-brokers-{token}");
        let watched = plan.launch.is_contained().then_some(container.as_str());
        let watchdog = Watchdog::start(plan.folder.path(), &mark, watched)?;
        let log = plan.folder.path().join("broker.log");
        let state = Mutex::new(State { run: Run::Down, watchdog: Some(watchdog) });
        Ok(Self { inner: Arc::new(Inner { plan, mark, container, log, state }) })
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.plan.ports.first().map_or(0, Port::number)
    }

    /// The node's name, as errors give it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.plan.name
    }

    /// The node's own folder: configuration, data and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.inner.plan.folder.path()
    }

    /// The end of what the broker wrote to its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.inner.log)
    }

    /// The number of the broker's leading process; nothing while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.inner.state().run {
            Run::Down => None,
            Run::Up(process) | Run::Frozen(process) => Some(process.pid()),
        }
    }

    /// Starts it on the port and data it had, and returns when it is ready.
    ///
    /// # Errors
    /// If it runs already, ends early, or is not ready within its deadline.
    pub async fn start(&self) -> Result<(), Error> {
        self.blocking(Inner::start).await
    }

    /// Runs a program that prepares the node's folder; like the node itself it does not outlive its owner.
    pub(crate) fn prepare_now(&self, program: &Launch) -> Result<(), Error> {
        let Inner { plan, mark, container, .. } = &*self.inner;
        run_marked(program.command(container), mark, plan.limit).map(|_| ())
    }

    /// [`start`](Self::start) for work that is on a thread of its own already.
    pub(crate) fn start_now(&self) -> Result<(), Error> {
        self.inner.start()
    }

    /// [`stop`](Self::stop) for work that is on a thread of its own already.
    pub(crate) fn stop_now(&self) -> Result<(), Error> {
        self.inner.stop()
    }

    /// Asks it to stop, and returns when all its processes are gone. Nothing happens if it is down.
    ///
    /// # Errors
    /// If it does not stop within half a minute; it is killed then.
    pub async fn stop(&self) -> Result<(), Error> {
        self.blocking(Inner::stop).await
    }

    /// `kill -9` for all its processes at once; returns when they are gone. Nothing happens if it is down.
    ///
    /// # Errors
    /// If its processes do not go away.
    pub async fn kill(&self) -> Result<(), Error> {
        self.blocking(Inner::kill).await
    }

    /// Freezes all its processes (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// If it is down, or its processes go on.
    pub async fn pause(&self) -> Result<(), Error> {
        self.blocking(Inner::pause).await
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// If it is not frozen.
    pub async fn resume(&self) -> Result<(), Error> {
        self.blocking(Inner::resume).await
    }

    /// Stops it gracefully, then starts it again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start().await
    }

    async fn blocking(&self, operation: fn(&Inner) -> Result<(), Error>) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        blocking(move || operation(&inner)).await
    }
}

/// Runs work that blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::io("a thread of test-brokers")(std::io::Error::other(error))),
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state stays sound if a thread panicked meanwhile: it changes by whole assignments only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<(), Error> {
        let mut state = self.state();
        match state.run {
            Run::Down => {}
            Run::Up(_) => return Err(self.state_error("start", "running")),
            Run::Frozen(_) => return Err(self.state_error("start", "paused")),
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(Error::io(format!("opening {}", self.log.display())))?;
        let deadline = Instant::now() + self.plan.limit;
        let mut process = Process::spawn(self.plan.launch.command(&self.container), &self.mark, &log)?;
        let ready = match &mut state.watchdog {
            Some(watchdog) => watchdog.watch(process.pid(), process.start()),
            None => Ok(()),
        };
        match ready.and_then(|()| self.until_ready(&mut process, deadline)) {
            Ok(()) => {
                state.run = Run::Up(process);
                Ok(())
            }
            Err(error) => {
                self.end(&mut process);
                self.rest(&mut state)?;
                Err(error)
            }
        }
    }

    fn until_ready(&self, process: &mut Process, deadline: Instant) -> Result<(), Error> {
        let node = || self.plan.name.clone();
        loop {
            if let Some(status) = process.ended()? {
                return Err(Error::Ended { node: node(), status: status.to_string(), log: log_tail(&self.log) });
            }
            let last = match (self.plan.probe)() {
                Ok(_) => return Ok(()),
                Err(reason) => reason,
            };
            if Instant::now() > deadline {
                let what = format!("starting {}", node());
                return Err(Error::Deadline { what, limit: self.plan.limit, last, log: log_tail(&self.log) });
            }
            std::thread::sleep(2 * GLANCE);
        }
    }

    fn stop(&self) -> Result<(), Error> {
        let mut state = self.state();
        let mut process = match std::mem::replace(&mut state.run, Run::Down) {
            Run::Down => return Ok(()),
            Run::Up(process) => process,
            Run::Frozen(process) => {
                self.signal(&process, Signal::CONT)?;
                process
            }
        };
        let result = self.signal(&process, self.plan.stop).and_then(|()| self.until_ended(&mut process));
        // What it left behind, such as RabbitMQ's port mapper, or all of it if it would not stop.
        self.end(&mut process);
        self.rest(&mut state)?;
        result
    }

    fn until_ended(&self, process: &mut Process) -> Result<(), Error> {
        let deadline = Instant::now() + STOP_LIMIT;
        while process.ended()?.is_none() {
            if Instant::now() > deadline {
                let what = format!("stopping {}", self.plan.name);
                let last = "it was still running".into();
                return Err(Error::Deadline { what, limit: STOP_LIMIT, last, log: log_tail(&self.log) });
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn kill(&self) -> Result<(), Error> {
        let mut state = self.state();
        let gone = match std::mem::replace(&mut state.run, Run::Down) {
            Run::Down => return Ok(()),
            Run::Up(mut process) | Run::Frozen(mut process) => self.end(&mut process),
        };
        self.rest(&mut state)?;
        if gone { Ok(()) } else { Err(self.state_error("kill", "still running")) }
    }

    fn pause(&self) -> Result<(), Error> {
        let mut state = self.state();
        match std::mem::replace(&mut state.run, Run::Down) {
            Run::Down => Err(self.state_error("pause", "down")),
            Run::Frozen(process) => {
                state.run = Run::Frozen(process);
                Ok(())
            }
            Run::Up(process) => {
                let result = self.signal(&process, Signal::STOP);
                state.run = Run::Frozen(process);
                result
            }
        }
    }

    fn resume(&self) -> Result<(), Error> {
        let mut state = self.state();
        match std::mem::replace(&mut state.run, Run::Down) {
            Run::Down => Err(self.state_error("resume", "down")),
            Run::Up(process) => {
                state.run = Run::Up(process);
                Err(self.state_error("resume", "running"))
            }
            Run::Frozen(process) => {
                let result = self.signal(&process, Signal::CONT);
                state.run = Run::Up(process);
                result
            }
        }
    }

    /// Freezes, thaws, or asks for a stop: of a container through its engine, of a process by a signal.
    fn signal(&self, process: &Process, signal: Signal) -> Result<(), Error> {
        if self.plan.launch.is_contained() {
            let action: &[&str] = match signal {
                Signal::STOP => &["pause"],
                Signal::CONT => &["unpause"],
                Signal::INT => &["kill", "--signal", "INT"],
                _ => &["kill", "--signal", "TERM"],
            };
            return self.docker(action);
        }
        let done = match signal {
            Signal::STOP => process.freeze(),
            Signal::CONT => process.thaw(),
            _ => {
                process.signal(signal);
                true
            }
        };
        if done { Ok(()) } else { Err(self.state_error("signal", "not heeding the signal")) }
    }

    /// Kills everything; false if something is left.
    fn end(&self, process: &mut Process) -> bool {
        if self.plan.launch.is_contained() {
            // Fails if the container ended by itself, which is as good.
            let _ = self.docker(&["rm", "--force"]);
        }
        process.kill()
    }

    fn rest(&self, state: &mut State) -> Result<(), Error> {
        match &mut state.watchdog {
            Some(watchdog) => watchdog.rest(),
            None => Ok(()),
        }
    }

    fn docker(&self, action: &[&str]) -> Result<(), Error> {
        let mut command = Command::new("docker");
        command.args(action).arg(&self.container);
        run(command, STOP_LIMIT).map(|_| ())
    }

    fn state_error(&self, action: &'static str, state: &'static str) -> Error {
        Error::State { node: self.plan.name.clone(), action, state }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let watchdog = state.watchdog.take();
        if let Run::Up(mut process) | Run::Frozen(mut process) = std::mem::replace(&mut state.run, Run::Down) {
            if self.plan.launch.is_contained() {
                let _ = self.docker(&["rm", "--force"]);
            }
            process.kill();
        }
        if let Some(watchdog) = watchdog {
            watchdog.end();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("port", &self.port()).finish_non_exhaustive()
    }
}
