//! What an e-mail looks like, and whom it is from.

use lettre::Message;
use lettre::message::{Mailbox, header::ContentType};
use service_kit::{Environment, SettingError};

use super::{MAIL_FROM, MailError};
use crate::notification::Notification;

/// Whom e-mail is from.
#[derive(Debug, Clone)]
pub struct Sender(Mailbox);

impl Sender {
    /// The sender that `MAIL_FROM` names.
    ///
    /// # Errors
    /// It is no address.
    pub fn from_environment(environment: &Environment) -> Result<Self, SettingError> {
        let text = environment.text(MAIL_FROM)?.or(MAIL_FROM.default_text().map(str::to_owned)).unwrap_or_default();
        text.parse().map(Self).map_err(|error| {
            MAIL_FROM.error(format_args!("expected `Name <user@example.com>`, found `{text}`: {error}"))
        })
    }

    /// The e-mail of a notification. Its Message-ID is the same whenever it is sent again, so that mail programs show
    /// it once.
    pub(super) fn message(&self, notification: &Notification) -> Result<Message, MailError> {
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
