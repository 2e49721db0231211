//! A mailer for tests and demonstrations: each e-mail becomes an `.eml` file.

use std::path::PathBuf;

use async_trait::async_trait;
use lettre::{AsyncFileTransport, AsyncTransport, Tokio1Executor};

use super::{MailError, Mailer, Sender};
use crate::notification::Notification;

/// Writes e-mail into a folder.
pub struct FileMailer {
    transport: AsyncFileTransport<Tokio1Executor>,
    folder: PathBuf,
    sender: Sender,
}

impl FileMailer {
    /// A mailer into this folder, which is created if need be.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(folder: impl Into<PathBuf>, sender: Sender) -> std::io::Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder)?;
        Ok(Self { transport: AsyncFileTransport::new(&folder), folder, sender })
    }
}

impl std::fmt::Debug for FileMailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileMailer").field(&self.folder).finish()
    }
}

#[async_trait]
impl Mailer for FileMailer {
    async fn send(&self, notification: &Notification) -> Result<(), MailError> {
        let message = self.sender.message(notification)?;
        self.transport.send(message).await.map(drop).map_err(MailError::unavailable)
    }
}
