//! [`Form`]: what messages have in common in AMQP.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};
use messaging::{Message, Name};

use super::parts::{Part, parts};

/// So many forms are remembered: those of the first messages.
const REMEMBERED: usize = 64;

/// Headers in AMQP.
pub(super) type Table = BTreeMap<ShortString, AMQPValue>;

/// What messages have in common that are events of one name, or none, with the same media type, and with the same headers
/// in the same order, or none.
pub(super) struct Form {
    event: Option<Name>,
    has_key: bool,
    parts: Vec<Known>,
    /// All properties but for the id and the headers.
    properties: BasicProperties,
    /// The headers without what they hold.
    table: Table,
    /// Which of the message's values each place of the table holds.
    order: Vec<usize>,
}

/// A part that is the same in each message of a form.
#[derive(PartialEq)]
enum Known {
    Header(String),
    ContentType(String),
}

impl Known {
    fn new(part: &Part<'_>) -> Option<Self> {
        match *part {
            Part::Header(name, _) => Some(Self::Header(name.to_owned())),
            Part::ContentType(text) => Some(Self::ContentType(text.to_owned())),
            Part::MessageId(_) => None,
        }
    }

    fn is(&self, part: &Part<'_>) -> bool {
        match (self, part) {
            (Self::Header(known), Part::Header(name, _)) => known == name,
            (Self::ContentType(known), Part::ContentType(text)) => known == text,
            _ => false,
        }
    }
}

impl Form {
    /// That of a message of which this was written: with these names, the key's first if there is one, none of them twice.
    pub(super) fn new(message: &Message, properties: BasicProperties, names: &[ShortString], table: &Table) -> Self {
        let mut known = Vec::new();
        parts(message, |part| known.extend(Known::new(&part)));
        Self {
            event: event(message).cloned(),
            has_key: message.key.is_some(),
            parts: known,
            properties,
            table: table.keys().map(|name| (name.clone(), AMQPValue::Void)).collect(),
            order: table.keys().filter_map(|name| names.iter().position(|known| known == name)).collect(),
        }
    }

    /// The properties of a message whose headers hold these values.
    pub(super) fn filled(&self, values: &mut [AMQPValue]) -> BasicProperties {
        if self.table.is_empty() {
            return self.properties.clone();
        }
        let mut table = self.table.clone();
        for (place, index) in table.values_mut().zip(&self.order) {
            std::mem::swap(place, &mut values[*index]);
        }
        self.properties.clone().with_headers(table.into())
    }

    fn is_of(&self, message: &Message) -> bool {
        self.has_key == message.key.is_some() && self.event.as_ref() == event(message)
    }
}

fn event(message: &Message) -> Option<&Name> {
    message.envelope.as_ref().map(|envelope| &envelope.name)
}

/// The forms that are remembered.
#[derive(Default)]
pub(super) struct Forms {
    forms: Vec<Form>,
    /// That of the last message.
    last: usize,
}

impl Forms {
    /// Remembers a form, as long as there is room.
    pub(super) fn add(&mut self, form: impl FnOnce() -> Form) {
        if self.forms.len() < REMEMBERED {
            self.forms.push(form());
        }
    }

    /// Looks for the form of a message.
    pub(super) fn search<'a>(&'a mut self, message: &'a Message) -> Search<'a> {
        let last = self.forms.get(self.last).filter(|form| form.is_of(message)).map(|_| self.last);
        let found = last.or_else(|| self.forms.iter().position(|form| form.is_of(message)));
        Search { forms: &self.forms, last: &mut self.last, message, found, seen: 0 }
    }
}

/// A search that has seen some parts of a message.
pub(super) struct Search<'a> {
    forms: &'a [Form],
    last: &'a mut usize,
    message: &'a Message,
    /// One that has all of them.
    found: Option<usize>,
    seen: usize,
}

impl<'a> Search<'a> {
    /// The next part. Answers whether there is still a form that has all of them.
    pub(super) fn narrow(&mut self, part: &Part<'_>) -> bool {
        self.go_on(|next| next.is_some_and(|known| known.is(part)));
        self.seen += 1;
        self.found.is_some()
    }

    /// There is no other part.
    pub(super) fn form(mut self) -> Option<&'a Form> {
        self.go_on(|next| next.is_none());
        let found = self.found?;
        *self.last = found;
        self.forms.get(found)
    }

    fn go_on(&mut self, is_next: impl Fn(Option<&Known>) -> bool) {
        let Some(found) = self.found.and_then(|found| self.forms.get(found)) else { return };
        let seen = self.seen;
        if is_next(found.parts.get(seen)) {
            return;
        }
        let has_all = |form: &Form| {
            form.is_of(self.message) && form.parts.starts_with(&found.parts[..seen]) && is_next(form.parts.get(seen))
        };
        self.found = self.forms.iter().position(has_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_forms_are_remembered_and_no_other_is_made() {
        let (mut forms, mut made) = (Forms::default(), 0);
        for _ in 0..REMEMBERED + 9 {
            forms.add(|| {
                made += 1;
                Form::new(&Message::new("t", "x"), BasicProperties::default(), &[], &Table::new())
            });
        }
        assert_eq!((forms.forms.len(), made), (REMEMBERED, REMEMBERED));
    }
}
