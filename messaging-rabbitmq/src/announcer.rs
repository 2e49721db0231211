//! [`Announcer`]: tells a group's members about one of them, over a connection that does nothing else.
//!
//! The broker stops reading from a connection that publishes when its memory or disk runs out. Acknowledgements must
//! still get through then, so that announcements do not share their connection.

use std::{sync::Arc, time::Duration};

use lapin::{BasicProperties, Channel, options::BasicPublishOptions, types::ShortString};
use messaging::Error;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    error::{unavailable, while_doing},
    link::{Link, Links},
};

/// An announcement that takes longer is out of date.
const DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Announcer {
    links: Arc<Links>,
    open: Mutex<Option<(Link, Channel)>>,
}

impl Announcer {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        Self { links, open: Mutex::default() }
    }

    /// Tells whoever listens on this exchange.
    ///
    /// # Errors
    /// If the broker cannot be reached, or takes nothing now.
    pub(crate) async fn announce(&self, exchange: ShortString, said: &[u8]) -> Result<(), Error> {
        let mut open = self.open.lock().await;
        let usable =
            |(link, channel): &(Link, Channel)| link.connection.status().connected() && channel.status().connected();
        if !open.as_ref().is_some_and(usable) {
            *open = None;
            let link = self.links.open("messaging: announcements").await?;
            let channel = link.channel().await?;
            *open = Some((link, channel));
        }
        let Some((link, channel)) = open.as_ref() else { return Err(unavailable("no connection for announcements")) };
        if link.connection.status().blocked() {
            return Err(unavailable("the broker blocks publishing"));
        }
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publishing = channel.basic_publish(exchange, ShortString::default(), options, said, properties);
        let failed = match timeout(DEADLINE, publishing).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => while_doing("announcing", error),
            Err(_) => unavailable("an announcement was not sent in time"),
        };
        *open = None;
        Err(failed)
    }

    /// Closes its connection.
    pub(crate) async fn close(&self) {
        if let Some((link, channel)) = self.open.lock().await.take() {
            drop(channel);
            link.close().await;
        }
    }
}
