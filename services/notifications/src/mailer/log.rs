//! A mailer for trying things out: the log says what would have been sent.

use async_trait::async_trait;

use super::{MailError, Mailer};
use crate::notification::Notification;

/// Sends nothing and says so in the log.
#[derive(Debug, Clone, Copy)]
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, notification: &Notification) -> Result<(), MailError> {
        tracing::info!(
            notification = notification.id,
            to = notification.user_email,
            subject = notification.subject,
            "e-mail (to the log only: SMTP_URL is not set)"
        );
        Ok(())
    }
}
