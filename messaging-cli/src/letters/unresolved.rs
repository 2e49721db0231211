//! The dead letters of a group that nobody has resolved, read without joining any group, repeats collapsed into one.

use std::collections::HashMap;

use messaging::{Admin, DeadLetter, DeadLetterId, Delivery, OPERATORS, Position, dead_letter_topic};

use super::filter::Filter;
use crate::{
    cli::Chosen,
    failure::Failure,
    place::{Reading, check_name},
};

/// A dead letter that is not resolved.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The message as it stands in the dead-letter topic.
    pub(crate) delivery: Delivery,
    pub(crate) told: DeadLetter,
    pub(crate) id: DeadLetterId,
    /// How many letters of this message there are: more than one if an owner that had lost its partition wrote one too.
    pub(crate) copies: usize,
}

/// Those that a command is about.
#[derive(Debug, Default)]
pub(crate) struct Unresolved {
    /// The oldest failure first.
    pub(crate) letters: Vec<Letter>,
    /// Those that `--limit` left out.
    pub(crate) left_out: usize,
    /// Messages of the dead-letter topic that are no dead letters.
    pub(crate) foreign: usize,
}

impl Letter {
    /// Reads one; `None` if the message is no dead letter.
    pub(crate) fn read(delivery: Delivery) -> Option<Self> {
        let told = DeadLetter::read(&delivery.message).ok()?;
        let id = told.id(&delivery.message);
        Some(Self { delivery, told, id, copies: 1 })
    }

    /// By what people name it: the event's id, or where the message stood and under which owner.
    pub(crate) fn label(&self) -> String {
        match &self.delivery.message.envelope {
            Some(envelope) => envelope.id.to_string(),
            None => format!("{}/{}.{}", self.told.partition, self.told.position, self.told.epoch),
        }
    }
}

/// Finds those that a command is about, up to its limit.
pub(crate) async fn find(admin: &dyn Admin, asked: &Chosen) -> Result<Unresolved, Failure> {
    let mut found = find_all(admin, asked).await?;
    let limit = asked.limit.unwrap_or(usize::MAX);
    found.left_out = found.letters.len().saturating_sub(limit);
    found.letters.truncate(limit);
    Ok(found)
}

/// Finds all that its filter takes.
pub(crate) async fn find_all(admin: &dyn Admin, asked: &Chosen) -> Result<Unresolved, Failure> {
    check_name("GROUP", "group", &asked.group)?;
    check_name("TOPIC", "topic", &asked.topic)?;
    let topic = dead_letter_topic(&asked.topic, &asked.group);
    let Some(info) = admin.describe(&topic).await? else {
        let (topic_asked, group) = (&asked.topic, &asked.group);
        return Err(Failure::failed(format!(
            "there are no dead letters of GROUP {group:?} from TOPIC {topic_asked:?}: topic {topic} does not exist"
        )));
    };
    let filter = Filter(asked);
    let mut found = Unresolved::default();
    let mut places: HashMap<DeadLetterId, usize> = HashMap::new();
    for partition in 0..info.partitions {
        let mut reading = Reading::new(partition, Position::default());
        loop {
            let (from, limit) = reading.next();
            let page = reading.take(admin.unsettled(OPERATORS, &topic, partition, from, limit).await?);
            if page.is_empty() {
                break;
            }
            for delivery in page {
                match Letter::read(delivery) {
                    None => found.foreign += 1,
                    Some(letter) if filter.takes(&letter) => collapse(&mut found.letters, &mut places, letter),
                    Some(_) => {}
                }
            }
        }
    }
    found
        .letters
        .sort_by_key(|letter| (letter.told.last_failed_at, letter.delivery.partition, letter.delivery.position));
    Ok(found)
}

/// Of repeats, the one that failed last stays.
fn collapse(letters: &mut Vec<Letter>, places: &mut HashMap<DeadLetterId, usize>, mut letter: Letter) {
    match places.get(&letter.id) {
        None => {
            places.insert(letter.id.clone(), letters.len());
            letters.push(letter);
        }
        Some(place) => {
            let known = &mut letters[*place];
            letter.copies += known.copies;
            if letter.told.last_failed_at >= known.told.last_failed_at {
                *known = letter;
            } else {
                known.copies = letter.copies;
            }
        }
    }
}
