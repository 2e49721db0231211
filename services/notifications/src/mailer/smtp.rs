//! E-mail over SMTP.

use std::time::Duration;

use async_trait::async_trait;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport, Tokio1Executor};

use super::{MailError, Mailer, Sender};
use crate::notification::Notification;

/// The longest that a mail server may take over one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that sending one e-mail may take, shorter than a handler may.
const SEND_DEADLINE: Duration = Duration::from_secs(25);

/// Hands e-mail to a mail server. Connections are kept and reused.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Sender,
}

/// Why an `SMTP_URL` cannot be used. Never repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmtpUrlError {
    /// Neither `smtp://` nor `smtps://`.
    #[error("expected smtp://host:port or smtps://user:password@host:port")]
    NotSmtp,
    /// Something behind the scheme is wrong, or TLS was asked for and is not built in.
    #[error("malformed, or asks for TLS which this program is built without")]
    Unusable,
}

impl SmtpMailer {
    /// A mailer through the server at this URL: `smtp://` in the clear, `smtp://…?tls=required` with STARTTLS,
    /// `smtps://` with TLS from the start. Connects when there is something to send.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(url: &str, sender: Sender) -> Result<Self, SmtpUrlError> {
        if !url.starts_with("smtp://") && !url.starts_with("smtps://") {
            return Err(SmtpUrlError::NotSmtp);
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| SmtpUrlError::Unusable)?
            .timeout(Some(COMMAND_DEADLINE))
            .build();
        Ok(Self { transport, sender })
    }
}

impl std::fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpMailer").field("sender", &self.sender).finish_non_exhaustive()
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    #[tracing::instrument(
        name = "smtp send", level = "info", skip_all, err(level = "info"),
        fields(otel.kind = "client", network.protocol.name = "smtp", notification = notification.id)
    )]
    async fn send(&self, notification: &Notification) -> Result<(), MailError> {
        let message = self.sender.message(notification)?;
        match tokio::time::timeout(SEND_DEADLINE, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_refusal(&error) => Err(MailError::refused(error)),
            Ok(Err(error)) => Err(MailError::unavailable(error)),
            Err(_) => Err(MailError::unavailable("the mail server took too long")),
        }
    }
}

/// Whether the server refused this e-mail (55x), rather than us (53x: credentials), or was busy (4xx).
fn is_refusal(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| (550..=559).contains(&u16::from(code)))
}
