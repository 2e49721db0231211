//! Test programs: built by Cargo, run by us, two at a time.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;

/// Packages whose tests wait for brokers and other programs most of the time, those first that take the longest.
const WAITING: [&str; 8] = [
    "end-to-end",
    "messaging-kafka",
    "messaging-rabbitmq",
    "messaging-redis",
    "rolling",
    "messaging-cli",
    "test-brokers",
    "messaging-outbox",
];

/// One program of tests.
#[derive(Debug)]
pub(super) struct Program {
    /// Its package and target.
    name: String,
    /// Whether it is a library's: one with documentation.
    pub(super) is_library: bool,
    /// Its place among those that wait.
    waits: Option<usize>,
    command: Command,
}

/// What became of one.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) name: String,
    pub(super) time: Duration,
    /// All that it printed, to standard output and to standard error.
    pub(super) output: Vec<u8>,
    /// How it ended, if not well.
    pub(super) failure: Option<String>,
}

/// A line of Cargo's account of a build, as far as it is about programs of tests.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    manifest_path: PathBuf,
    profile: Profile,
    target: Target,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Program {
    /// The program of a line that Cargo wrote about its build, if it is about one of tests.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let Artifact { executable, manifest_path, profile, target } = serde_json::from_slice(line).ok()?;
        let executable = executable.filter(|_| profile.test)?;
        let manifest: toml::Table = std::fs::read_to_string(&manifest_path).ok()?.parse().ok()?;
        let package = manifest.get("package")?.get("name")?.as_str()?;
        let kind = target.kind.first().map_or("", String::as_str);
        let is_library = kind == "lib" || kind == "proc-macro";
        let name = match kind {
            _ if is_library => package.to_owned(),
            "test" => format!("{package}/tests/{}", target.name),
            other => format!("{package} {other} {}", target.name),
        };
        let mut command = Command::new(executable);
        // As Cargo runs it.
        let folder = manifest_path.parent()?;
        command.current_dir(folder).env("CARGO_MANIFEST_DIR", folder).env("CARGO_PKG_NAME", package);
        let waits = WAITING.iter().position(|waiting| *waiting == package);
        Some(Self { name, is_library, waits, command })
    }

    /// Something else that runs tests.
    pub(super) fn other(name: &str, command: Command) -> Self {
        Self { name: name.to_owned(), is_library: false, waits: None, command }
    }

    /// Adds an argument of its command line.
    pub(super) fn arg(&mut self, argument: &str) {
        self.command.arg(argument);
    }

    /// Runs it to its end.
    fn run(mut self) -> anyhow::Result<Ran> {
        let begin = Instant::now();
        let (mut reader, writer) = std::io::pipe()?;
        self.command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = self.command.spawn().with_context(|| format!("starting {}", self.name))?;
        // Our ends of the pipe would keep it open.
        drop(self.command);
        let mut output = Vec::new();
        reader.read_to_end(&mut output)?;
        let status = child.wait()?;
        let failure = (!status.success()).then(|| status.to_string());
        Ok(Ran { name: self.name, time: begin.elapsed(), output, failure })
    }
}

/// Runs programs, two at a time, and tells of each when it has ended. One place is for those that wait, the other one for
/// those that compute; whichever has nothing left takes of the other's.
pub(super) fn run(
    programs: Vec<Program>,
    seed: (&str, &str),
    tell: impl FnMut(Ran) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let mut queue: Vec<Program> = programs;
    queue.sort_by_key(|program| program.waits.unwrap_or(WAITING.len()));
    let (queue, tell) = (Mutex::new(VecDeque::from(queue)), Mutex::new(tell));
    let work = |next: fn(&mut VecDeque<Program>) -> Option<Program>| -> anyhow::Result<()> {
        loop {
            let next = next(&mut queue.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(mut program) = next else { return Ok(()) };
            program.command.env(seed.0, seed.1);
            let ran = program.run()?;
            (tell.lock().unwrap_or_else(PoisonError::into_inner))(ran)?;
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(VecDeque::pop_back));
        let own = work(VecDeque::pop_front);
        let other = other.join().map_err(|_| anyhow::anyhow!("a thread that runs tests panicked"))?;
        own.and(other)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn shell(name: &str, script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::other(name, command)
    }

    #[test]
    fn what_programs_print_is_told_in_one_piece_with_how_they_ended() {
        let programs = vec![
            shell("well", "echo one; echo two >&2; echo $SEED"),
            shell("ill", "echo three; exit 101"),
            shell("killed", "kill -9 $$"),
        ];
        let mut told = Vec::new();
        run(programs, ("SEED", "7"), |ran| {
            told.push(ran);
            Ok(())
        })
        .unwrap();
        told.sort_by(|one, other| one.name.cmp(&other.name));
        let [ill, killed, well] = told.try_into().unwrap();
        assert_eq!((&well.output[..], &well.failure), (&b"one\ntwo\n7\n"[..], &None));
        assert_eq!((&ill.output[..], ill.failure.as_deref()), (&b"three\n"[..], Some("exit status: 101")));
        assert!(killed.failure.unwrap().contains("signal: 9"));
    }

    /// Each waits for the other one to begin.
    #[test]
    fn two_run_at_once() {
        let folder = free_folder();
        let meet = |own: &str, other: &str| {
            let folder = folder.display();
            shell(own, &format!("touch {folder}/{own}; until [ -e {folder}/{other} ]; do sleep 0.01; done"))
        };
        let ended = AtomicUsize::new(0);
        run(vec![meet("a", "b"), meet("b", "a")], ("SEED", "7"), |ran| {
            assert_eq!(ran.failure, None);
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(ended.into_inner(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn free_folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-two-at-once-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_build_tells_of_its_programs() {
        let manifest = crate::cargo::root().join("xtask/Cargo.toml");
        let line = |executable: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":{manifest:?},"executable":{executable},
                "profile":{{"test":{test}}},"target":{{"name":"it","kind":["test"]}}}}"#
            )
        };
        let program = Program::read(line(r#""/t/it-1""#, true).as_bytes()).unwrap();
        assert_eq!((program.name.as_str(), program.command.get_program()), ("xtask/tests/it", "/t/it-1".as_ref()));
        assert!(Program::read(line(r#""/t/it""#, false).as_bytes()).is_none());
        assert!(Program::read(line("null", true).as_bytes()).is_none());
        assert!(Program::read(br#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
