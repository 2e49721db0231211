//! Topics and their partitions, as the commands look at them.

use messaging::{Admin, Delivery, Position, TopicInfo, validate_name};

use crate::failure::{Failure, full_text};

/// How many messages are read at once.
pub(crate) const PAGE: usize = 500;

/// A topic or group that was named on the command line.
pub(crate) fn check_name(argument: &str, kind: &'static str, name: &str) -> Result<(), Failure> {
    validate_name(kind, name).map_err(|error| Failure::usage(format!("{argument}: {}", full_text(&error))))
}

/// The topic that was named on the command line, which has to be there.
pub(crate) async fn topic(admin: &dyn Admin, argument: &str, topic: &str) -> Result<TopicInfo, Failure> {
    // Topics that belong to a group have longer names than those that can be made.
    if !topic.ends_with(".dlq") && !topic.ends_with(".replay") {
        check_name(argument, "topic", topic)?;
    }
    let found = admin.describe(topic).await?;
    found.ok_or_else(|| Failure::failed(format!("{argument}: there is no topic {topic:?}")))
}

/// A partition that is read page by page.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) partition: u32,
    last: Option<Position>,
    from: Position,
}

impl Reading {
    pub(crate) fn new(partition: u32, from: Position) -> Self {
        Self { partition, last: None, from }
    }

    /// From where the next page is to be read, and how much.
    pub(crate) fn next(&self) -> (Position, usize) {
        // A backend whose positions are plain numbers answers the last message again.
        (self.from, PAGE + usize::from(self.last.is_some()))
    }

    /// What is new in a page that was read from there.
    pub(crate) fn take(&mut self, mut page: Vec<Delivery>) -> Vec<Delivery> {
        page.retain(|delivery| self.last.is_none_or(|last| delivery.position > last));
        if let Some(newest) = page.last() {
            self.last = Some(newest.position);
            self.from = Position { major: newest.position.major, minor: newest.position.minor + 1 };
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use messaging::Message;

    use super::*;

    fn at(number: u64) -> Delivery {
        let mut delivery = Delivery::new(Message::new("t", ""));
        delivery.position = Position::new(number);
        delivery
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let mut reading = Reading::new(0, Position::default());
        assert_eq!(reading.take(vec![at(0), at(1)]).len(), 2);
        assert_eq!(reading.next(), (Position { major: 1, minor: 1 }, PAGE + 1));
        assert_eq!(reading.take(vec![at(1), at(2)])[0].position, Position::new(2));
        assert!(reading.take(vec![at(2)]).is_empty());
    }
}
