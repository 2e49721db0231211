//! Sending e-mail: over SMTP, into a folder, or only into the log.

#[cfg(feature = "mail")]
mod file;
mod log;
#[cfg(feature = "mail")]
mod sender;
#[cfg(feature = "mail")]
mod smtp;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use service_kit::{Environment, Setting, SettingError};

#[cfg(feature = "mail")]
pub use file::FileMailer;
pub use log::LogMailer;
#[cfg(feature = "mail")]
pub use sender::Sender;
#[cfg(feature = "mail")]
pub use smtp::SmtpMailer;

use crate::notification::Notification;

/// The mail server.
pub const SMTP_URL: Setting = Setting::new(
    "SMTP_URL",
    "consumer: `smtp://host:port`, `smtp://…?tls=required`, `smtps://user:password@host:port`",
)
.secret();

/// Where e-mail goes without a mail server.
pub const MAIL_DIR: Setting = Setting::new(
    "MAIL_DIR",
    "consumer, without `SMTP_URL`: a folder for e-mail, as `.eml` files; without either the log says what would be sent",
);

/// Whom e-mail is from.
pub const MAIL_FROM: Setting =
    Setting::new("MAIL_FROM", "consumer: the sender").default("Notifications <notifications@localhost>");

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

#[cfg(feature = "mail")]
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
#[cfg(feature = "mail")]
pub fn from_environment(environment: &Environment) -> Result<Arc<dyn Mailer>, SettingError> {
    let sender = Sender::from_environment(environment)?;
    if let Some(url) = environment.text(SMTP_URL)? {
        let mailer = SmtpMailer::new(&url, sender).map_err(|error| SMTP_URL.error(error))?;
        return Ok(Arc::new(mailer));
    }
    if let Some(folder) = environment.text(MAIL_DIR)? {
        let mailer = FileMailer::new(folder, sender).map_err(|error| MAIL_DIR.error(error))?;
        return Ok(Arc::new(mailer));
    }
    Ok(Arc::new(LogMailer))
}

/// The mailer that the settings ask for, which in this build can only be the log.
///
/// # Errors
/// The settings ask for another.
#[cfg(not(feature = "mail"))]
pub fn from_environment(environment: &Environment) -> Result<Arc<dyn Mailer>, SettingError> {
    for setting in [SMTP_URL, MAIL_DIR] {
        if environment.text(setting)?.is_some() {
            return Err(setting.error("this program is built without the feature `mail`"));
        }
    }
    Ok(Arc::new(LogMailer))
}
