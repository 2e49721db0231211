//! How a broker's program is started: on this machine, or by a container engine.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    /// In a container of this image, on the host's network and with the node's folder at the same path, so that ports,
    /// addresses and configuration are the same as on the host.
    Container(String),
}

/// The user that a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    pub(crate) fn current() -> Self {
        Self { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
    }
}

/// A program with its arguments and surroundings, startable any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    place: Place,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    user: Option<User>,
}

impl Launch {
    /// A program that runs in, and may write to, this folder.
    pub(crate) fn new(place: &Place, program: impl Into<OsString>, folder: &Path) -> Self {
        Self {
            place: place.clone(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            user: None,
        }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn envs<'a>(mut self, pairs: impl IntoIterator<Item = &'a (OsString, OsString)>) -> Self {
        self.environment.extend(pairs.into_iter().cloned());
        self
    }

    pub(crate) fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    pub(crate) fn is_contained(&self) -> bool {
        matches!(self.place, Place::Container(_))
    }

    /// The command to spawn; `name` is the container's, if it is one.
    pub(crate) fn command(&self, name: &str) -> Command {
        match &self.place {
            Place::Host => self.on_host(),
            Place::Container(image) => self.in_container(image, name),
        }
    }

    fn on_host(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(User { uid, gid }) = self.user.filter(|user| *user != User::current()) {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// `docker run` in the foreground: its output is the log, and it ends when the container does.
    fn in_container(&self, image: &str, name: &str) -> Command {
        let user = self.user.unwrap_or_else(User::current);
        let joined = |left: &OsStr, between: &str, right: &OsStr| {
            let mut text = left.to_owned();
            text.push(between);
            text.push(right);
            text
        };
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--name", name, "--network", "host"]);
        command.args(["--user", &format!("{}:{}", user.uid, user.gid)]);
        // Some programs look their user up, and the image does not know the host's.
        command.args(["--volume", "/etc/passwd:/etc/passwd:ro"]);
        command.arg("--volume").arg(joined(self.folder.as_os_str(), ":", self.folder.as_os_str()));
        command.arg("--workdir").arg(&self.folder);
        for (name, value) in &self.environment {
            command.arg("--env").arg(joined(name, "=", value));
        }
        command.arg("--entrypoint").arg(&self.program).arg(image).args(&self.arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runs_on_the_hosts_network_with_the_folder_at_the_same_path() {
        let launch = Launch::new(&Place::Container("redis:7".into()), "redis-server", Path::new("/data/x"))
            .args(["--port", "16000"])
            .env("A", "b")
            .user(User { uid: 5, gid: 6 });
        let command = launch.command("node-1");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let expected = "run --rm --name node-1 --network host --user 5:6 --volume /etc/passwd:/etc/passwd:ro \
                        --volume /data/x:/data/x --workdir /data/x --env A=b --entrypoint redis-server redis:7 \
                        --port 16000";
        assert_eq!(words.join(" "), expected);
    }
}
