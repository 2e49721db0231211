//! `replay` and `drop`: the letters that were listed, and no others, are taken as an instance of the group of operators
//! and settled by it, after the group that gave them up was handed them once more.

use std::{
    collections::{HashMap, VecDeque},
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use messaging::{
    Broker, DeadLetter, DeadLetterId, Messaging, MessagingOptions, OPERATORS, Settler, Shape, Timestamp, Unsettled,
    dead_letter_topic,
};
use serde::Serialize;
use tokio::time::Instant;

use super::unresolved::{self, Letter};
use crate::{
    cli::{Chosen, Resolve},
    connect::CLOSE_DEADLINE,
    failure::{Failure, full_text},
    output::Output,
};

/// How long the broker may take to hand over the next letter: longer than it takes to notice that an instance before
/// this one has died.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long settling and leaving may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(15);

/// What is done with the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Replay,
    Drop,
}

impl Act {
    fn done(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Drop => "dropped",
        }
    }
}

/// What became of one letter.
#[derive(Debug, Serialize)]
struct Outcome {
    id: String,
    group: String,
    topic: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A letter that was listed and is to be taken.
struct Wanted {
    label: String,
    failed_at: Timestamp,
    /// It was published for the group.
    published: bool,
    copies_left: usize,
}

pub(super) async fn run(broker: Arc<dyn Broker>, asked: &Resolve, act: Act, out: &Output) -> Result<(), Failure> {
    let mut found = unresolved::find(&*broker.admin(), &asked.chosen).await?;
    super::tell_rest(&found, out);
    let mut refused = 0;
    if act == Act::Replay {
        let (whole, pointers): (Vec<Letter>, Vec<Letter>) =
            found.letters.into_iter().partition(|letter| letter.told.shape != Shape::Pointer);
        for letter in &pointers {
            let error = format!(
                "it holds only where its message stood: {}/{}@{}",
                letter.told.topic, letter.told.partition, letter.told.position
            );
            report(asked, letter.label(), "refused", Some(error), out)?;
        }
        refused = pointers.len();
        found.letters = whole;
    }
    if !found.letters.is_empty() {
        confirm(asked, act, &found.letters)?;
        let messaging = match act {
            Act::Replay => Some(Messaging::new(broker.clone(), MessagingOptions::default()).await?),
            Act::Drop => None,
        };
        let result =
            Resolving::begin(&*broker, messaging.as_ref(), asked, &found.letters).await?.run(&*broker, out).await;
        if let Some(messaging) = messaging {
            // Every outcome is known already.
            let _ = messaging.close(CLOSE_DEADLINE).await;
        }
        result?;
    }
    if refused > 0 { Err(Failure::Told) } else { Ok(()) }
}

/// Asks whether to go on, unless that was said already.
fn confirm(asked: &Resolve, act: Act, letters: &[Letter]) -> Result<(), Failure> {
    if asked.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--yes: needed where nobody can be asked (the standard input is no terminal)"));
    }
    let (count, group, topic) = (letters.len(), &asked.chosen.group, &asked.chosen.topic);
    let question = match act {
        Act::Replay => format!("Hand {count} dead letters from {topic} to group {group} once more?"),
        Act::Drop => format!("Drop {count} dead letters of group {group} from {topic} for good?"),
    };
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done")),
    }
}

/// The letters on their way.
struct Resolving<'a> {
    asked: &'a Resolve,
    /// Publishes replays; dropping needs nobody.
    messaging: Option<&'a Messaging>,
    settler: Settler,
    wanted: HashMap<DeadLetterId, Wanted>,
    /// Letters that were handed over and not looked at yet.
    waiting: VecDeque<Unsettled>,
    bar: ProgressBar,
    next_at: Instant,
    resolved: Resolved,
}

/// Letters that were resolved, with when they had failed.
#[derive(Default)]
struct Resolved(HashMap<DeadLetterId, Timestamp>);

impl Resolved {
    /// Checks that the broker has kept it: Kafka can keep only so much of what is settled out of order.
    async fn verify(&self, broker: &dyn Broker, chosen: &Chosen) -> Result<(), Failure> {
        let listed = unresolved::find_all(&*broker.admin(), chosen).await?.letters;
        // One that has failed again since is another letter.
        let again = listed.iter().filter(|letter| self.0.get(&letter.id) == Some(&letter.told.last_failed_at)).count();
        if again == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "{again} of those that were resolved are listed again: they lie scattered among so many others that the broker \
             could not keep which they are; resolve the oldest without leaving any in between"
        )))
    }
}

impl<'a> Resolving<'a> {
    async fn begin(
        broker: &dyn Broker,
        messaging: Option<&'a Messaging>,
        asked: &'a Resolve,
        letters: &[Letter],
    ) -> Result<Self, Failure> {
        let wanted = letters.iter().map(|letter| {
            let (label, failed_at) = (letter.label(), letter.told.last_failed_at);
            (letter.id.clone(), Wanted { label, failed_at, published: false, copies_left: letter.copies })
        });
        let topic = dead_letter_topic(&asked.chosen.topic, &asked.chosen.group);
        // Hidden by itself where the standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(letters.len() as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        Ok(Self {
            asked,
            messaging,
            settler: Settler::join(broker, OPERATORS, topic).await?,
            wanted: wanted.collect(),
            waiting: VecDeque::new(),
            bar,
            next_at: Instant::now(),
            resolved: Resolved::default(),
        })
    }

    /// Takes letters until all that are wanted are settled, none comes any more, one fails, or somebody interrupts.
    async fn run(mut self, broker: &dyn Broker, out: &Output) -> Result<(), Failure> {
        let failure = tokio::select! {
            result = self.take_all(out) => result.err(),
            _ = tokio::signal::ctrl_c() => Some(Failure::failed("interrupted")),
        };
        self.bar.finish_and_clear();
        let act = if self.messaging.is_some() { Act::Replay } else { Act::Drop };
        let left = self.wanted.len();
        let repeated = self.wanted.values().any(|wanted| wanted.published);
        let left_group = self.settler.leave(LEAVE_DEADLINE).await.map_err(|error| {
            let mut text = format!("the broker could not be told what is resolved: {}", full_text(&error));
            if act == Act::Replay {
                text.push_str("; the letters that were replayed may be listed again");
            }
            Failure::Failed(text)
        });
        if failure.is_some() && repeated {
            out.note(
                "one letter was replayed and not resolved: it is listed still, and replaying it hands it over again",
            );
        }
        out.note(&match left {
            0 => format!("{} {}", self.resolved.0.len(), act.done()),
            _ => format!("{} {}, {left} not", self.resolved.0.len(), act.done()),
        });
        let kept = match &left_group {
            Ok(()) => self.resolved.verify(broker, &self.asked.chosen).await,
            Err(_) => Ok(()),
        };
        match (failure, kept) {
            (Some(Failure::Failed(first)), Err(Failure::Failed(second))) => {
                Err(Failure::Failed(format!("{first}; {second}")))
            }
            (Some(failure), _) => Err(failure),
            (None, kept) => left_group.and(kept),
        }
    }

    async fn take_all(&mut self, out: &Output) -> Result<(), Failure> {
        let mut heard = Instant::now();
        while !self.wanted.is_empty() {
            let Some(unsettled) = (match self.waiting.pop_front() {
                Some(unsettled) => Some(unsettled),
                None => self.settler.next(Duration::from_secs(1)).await?,
            }) else {
                if heard.elapsed() < PATIENCE {
                    continue;
                }
                return Err(Failure::failed(format!(
                    "{} letters were not handed over: somebody else has them or has resolved them, or too many that \
                     were not chosen stand before them",
                    self.wanted.len()
                )));
            };
            heard = Instant::now();
            self.take(unsettled, out).await?;
        }
        Ok(())
    }

    /// Resolves a letter, if it is one of those that were listed.
    async fn take(&mut self, unsettled: Unsettled, out: &Output) -> Result<(), Failure> {
        let Some(letter) = Letter::read(unsettled.delivery.clone()) else { return Ok(()) };
        let Some(wanted) = self.wanted.get(&letter.id) else { return Ok(()) };
        let label = wanted.label.clone();
        if let Some(messaging) = self.messaging
            && !wanted.published
        {
            let (message, partition) = (&letter.delivery.message, letter.delivery.partition);
            let replay = DeadLetter::replay(message, partition, letter.delivery.position)?;
            self.pace().await?;
            let publishing = async { messaging.publish_raw(replay).await };
            if let Err(error) = self.meanwhile(publishing).await? {
                report(self.asked, label, "failed", Some(full_text(&error)), out)?;
                return Err(error.into());
            }
        } else if !wanted.published {
            self.pace().await?;
        }
        let ours = self.settler.settle(&unsettled);
        let Some(wanted) = self.wanted.get_mut(&letter.id) else { return Ok(()) };
        wanted.published = true;
        let failed_at = wanted.failed_at;
        if !ours {
            // It comes again, from the broker, and only to be settled.
            return Ok(());
        }
        wanted.copies_left = wanted.copies_left.saturating_sub(1);
        if wanted.copies_left == 0 {
            self.wanted.remove(&letter.id);
            self.resolved.0.insert(letter.id, failed_at);
            self.bar.inc(1);
            let act = if self.messaging.is_some() { Act::Replay } else { Act::Drop };
            report(self.asked, label, act.done(), None, out)?;
        }
        Ok(())
    }

    /// Waits for the next turn that the rate allows.
    async fn pace(&mut self) -> Result<(), Failure> {
        let Some(rate) = self.asked.rate else { return Ok(()) };
        let turn = self.next_at.max(Instant::now());
        self.next_at = turn + rate.pause;
        self.meanwhile(tokio::time::sleep_until(turn)).await
    }

    /// Awaits something and takes what is handed over meanwhile: an instance that does nothing loses its partitions.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                found = self.settler.next(Duration::from_secs(1)) => self.waiting.extend(found?),
            }
        }
    }
}

/// Tells what became of one letter: to programs each, to people what went wrong.
fn report(
    asked: &Resolve,
    id: String,
    outcome: &'static str,
    error: Option<String>,
    out: &Output,
) -> Result<(), Failure> {
    if let Some(error) = &error {
        out.note(&format!("{id} {outcome}: {error}"));
    }
    if !out.is_json() {
        return Ok(());
    }
    let (group, topic) = (asked.chosen.group.clone(), asked.chosen.topic.clone());
    out.json(&Outcome { id, group, topic, outcome, error })
}
