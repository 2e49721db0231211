//! Sending e-mail: over SMTP, into a folder, or only into the log.

mod file;
mod log;
mod smtp;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lettre::Message;
use lettre::message::{Mailbox, header::ContentType};
use service_kit::{Environment, SettingError};

pub use file::FileMailer;
pub use log::LogMailer;
pub use smtp::SmtpMailer;

use crate::notification::Notification;

/// Whom e-mail is from unless `MAIL_FROM` says otherwise.
const DEFAULT_SENDER: &str = "Notifications <notifications@localhost>";

/// Something that sends e-mail.
#[async_trait]
pub trait Mailer: fmt::Debug + Send + Sync {
    /// Hands a notification to whoever delivers it. `Ok` means that it was accepted.
    ///
    /// # Errors
    /// It was refused, or not accepted in time; in the latter case it may still arrive.
    async fn send(&self, notification: &Notification) -> Result<(), MailError>;
}

/// Why an e-mail was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// It never will be: the address or the content was refused for good.
    #[error("refused for good: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server was away, busy or too slow: try again later.
    #[error("not sent: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl MailError {
    fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Refused(error.into())
    }

    fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The mailer that the settings ask for: `SMTP_URL` sends, else `MAIL_DIR` collects files, else the log says what would
/// be sent. `MAIL_FROM` is the sender.
///
/// # Errors
/// One of them is wrong; the error names it and never shows a password.
pub fn from_environment(environment: &Environment) -> Result<Arc<dyn Mailer>, SettingError> {
    let sender = environment.text("MAIL_FROM")?.unwrap_or_else(|| DEFAULT_SENDER.to_owned());
    let sender: Sender = sender.parse().map_err(|error| {
        SettingError::new("MAIL_FROM", format_args!("expected `Name <user@example.com>`, found `{sender}`: {error}"))
    })?;
    Ok(match (environment.text("SMTP_URL")?, environment.text("MAIL_DIR")?) {
        (Some(url), _) => {
            Arc::new(SmtpMailer::new(&url, sender).map_err(|error| SettingError::new("SMTP_URL", error))?)
        }
        (None, Some(folder)) => {
            Arc::new(FileMailer::new(folder, sender).map_err(|error| SettingError::new("MAIL_DIR", error))?)
        }
        (None, None) => Arc::new(LogMailer),
    })
}

/// Whom e-mail is from.
#[derive(Debug, Clone)]
pub struct Sender(Mailbox);

impl std::str::FromStr for Sender {
    type Err = lettre::address::AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Sender {
    /// The e-mail of a notification. Its Message-ID is the same whenever it is sent again, so that mail programs show
    /// it once.
    fn message(&self, notification: &Notification) -> Result<Message, MailError> {
        let recipient = notification.user_email.parse().map_err(MailError::refused)?;
        Message::builder()
            .from(self.0.clone())
            .to(Mailbox::new(None, recipient))
            .subject(notification.subject.as_str())
            .message_id(Some(format!("<notification-{}@{}>", notification.id, self.0.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(notification.body.clone())
            .map_err(MailError::refused)
    }
}
