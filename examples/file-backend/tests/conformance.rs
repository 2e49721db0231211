//! The delivery contract on files, by the suite that every backend runs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use file_backend::FileBroker;
use messaging::{BoxError, Broker, Error, ErrorKind};
use messaging_conformance::{Cluster, Factory, Need};
use tempfile::TempDir;

fn main() -> ExitCode {
    messaging_conformance::main(Folders)
}

/// A folder per test.
struct Folders;

struct Folder {
    broker: FileBroker,
    _folder: TempDir,
}

#[async_trait]
impl Factory for Folders {
    fn name(&self) -> &str {
        "file"
    }

    fn lacks(&self) -> Vec<(Need, &'static str)> {
        vec![
            (Need::Server, "files have no process of their own"),
            (Need::Route, "files are reached without a network"),
            (Need::Freeze, "all members are in one process, and none is given up"),
            (Need::Grow, "a topic keeps the partitions that it was made with"),
            (Need::Forget, "files keep everything"),
            (Need::Processes, "one process at a time has the folder open"),
        ]
    }

    async fn shared(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        let folder = tempfile::tempdir()?;
        Ok(Arc::new(Folder { broker: FileBroker::open(folder.path())?, _folder: folder }))
    }

    async fn own(&self) -> Result<Arc<dyn Cluster>, BoxError> {
        self.shared().await
    }

    async fn connect(&self, url: &str) -> Result<Arc<dyn Broker>, Error> {
        Err(Error::new(ErrorKind::Unsupported, format!("{url}: no other process opens a folder")))
    }
}

#[async_trait]
impl Cluster for Folder {
    async fn connect(&self) -> Result<Arc<dyn Broker>, Error> {
        Ok(Arc::new(self.broker.clone()))
    }
}
