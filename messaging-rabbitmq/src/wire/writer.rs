//! [`Writer`]: writes messages as AMQP properties.
//!
//! A table of AMQP is a sorted map that owns every name in it. Mostly all messages have the same headers in the same order,
//! so the table is not sorted anew for each: it is copied with its names from one that is remembered, and filled.

use std::collections::{BTreeMap, btree_map::Entry};

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};
use messaging::{Message, cloudevents};
use smallvec::SmallVec;

use super::{ESCAPE, KEY, MESSAGE_ID};

/// The attribute that is the property `message_id` as well.
const ID: &str = "ce_id";
/// So many forms are remembered.
const REMEMBERED: usize = 16;
const PERSISTENT: u8 = 2;
/// The most that a short string of AMQP holds.
const SHORT: usize = 255;

type Table = BTreeMap<ShortString, AMQPValue>;

/// Writes messages as AMQP properties.
pub(crate) struct Writer {
    prefix: String,
    /// Those of the first messages.
    forms: Vec<Form>,
}

/// Which headers a message has.
struct Form {
    of_event: bool,
    has_key: bool,
    /// What they are called, in the message's order; without the key.
    names: Vec<String>,
    /// What they are called in AMQP, without their values.
    table: Table,
    /// Which of them each place of the table is for, the key being the first if there is one.
    order: Vec<usize>,
}

/// The properties that stand for headers.
#[derive(Default)]
struct Properties {
    content_type: Option<ShortString>,
    message_id: Option<ShortString>,
}

impl Writer {
    /// One that writes attributes with this prefix.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), forms: Vec::new() }
    }

    /// The AMQP properties of a message.
    ///
    /// # Errors
    /// What does not fit into AMQP.
    pub(crate) fn properties(&mut self, message: &Message) -> Result<BasicProperties, String> {
        let mut values: SmallVec<[AMQPValue; 12]> = message.key.iter().map(|key| bytes(key)).collect();
        let (mut form, mut index) = (Some(0), 0);
        let Properties { content_type, message_id } = headers(message, |name, value| {
            form = form.and_then(|form| self.form(message, form, index, Some(name)));
            if form.is_some() {
                values.push(bytes(value));
            }
            index += 1;
        });
        let table = match form.and_then(|form| self.form(message, form, index, None)) {
            Some(form) => self.forms[form].filled(&mut values),
            None => self.learn(message)?,
        };
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        if let Some(content_type) = content_type {
            properties = properties.with_content_type(content_type);
        }
        if let Some(id) = message_id {
            properties = properties.with_message_id(id);
        }
        if let Some(name) = message.envelope.as_ref().and_then(|envelope| short(envelope.name.as_bytes())) {
            properties = properties.with_type(name);
        }
        Ok(if table.is_empty() { properties } else { properties.with_headers(table.into()) })
    }

    /// The form of a message whose headers so far are those of the form `likely`, and that has the header `name` next, or
    /// no other.
    fn form(&self, message: &Message, likely: usize, index: usize, name: Option<&str>) -> Option<usize> {
        let next = |form: &Form| form.names.get(index).map(String::as_str) == name;
        let is_alike =
            |form: &Form| form.of_event == message.envelope.is_some() && form.has_key == message.key.is_some();
        let known = self.forms.get(likely)?;
        if next(known) && (index > 0 || is_alike(known)) {
            return Some(likely);
        }
        let before = &known.names[..index];
        // Those in front of it were others already.
        let is_it = |form: &Form| next(form) && is_alike(form) && form.names.starts_with(before);
        (likely + 1..self.forms.len()).find(|other| is_it(&self.forms[*other]))
    }

    /// The table of a message of a form that is not known yet.
    fn learn(&mut self, message: &Message) -> Result<Table, String> {
        let of_event = message.envelope.is_some();
        let (mut table, mut names, mut written, mut too_long) = (Table::new(), Vec::new(), Vec::new(), None);
        if let Some(key) = &message.key {
            table.insert(KEY.into(), bytes(key));
            written.push(ShortString::from(KEY));
        }
        headers(message, |name, value| match self.written(name, of_event) {
            Ok(short) => {
                add(&mut table, short.clone(), value);
                names.push(name.to_owned());
                written.push(short);
            }
            Err(name) => too_long = Some(name),
        });
        if let Some(name) = too_long {
            return Err(format!("the header {name:?} has a name of more than {SHORT} bytes"));
        }
        // One that stands more than once has no place of its own.
        if self.forms.len() < REMEMBERED && table.len() == written.len() {
            let order = table.keys().filter_map(|name| written.iter().position(|written| written == name)).collect();
            let table = table.keys().map(|name| (name.clone(), AMQPValue::Void)).collect();
            self.forms.push(Form { of_event, has_key: message.key.is_some(), names, table, order });
        }
        Ok(table)
    }

    /// What a header is called in AMQP.
    ///
    /// # Errors
    /// That, if it is too long.
    fn written(&self, name: &str, of_event: bool) -> Result<ShortString, String> {
        let written = match name.strip_prefix(cloudevents::PREFIX).filter(|_| of_event) {
            Some(attribute) => [&self.prefix, attribute].concat(),
            None if name == KEY || name.starts_with(ESCAPE) => [ESCAPE, name].concat(),
            None => name.to_owned(),
        };
        ShortString::try_new(written.as_str()).map_err(|_| written)
    }
}

impl Form {
    /// The table with these values, which are in the message's order.
    fn filled(&self, values: &mut [AMQPValue]) -> Table {
        let mut table = self.table.clone();
        for (place, index) in table.values_mut().zip(&self.order) {
            *place = std::mem::replace(&mut values[*index], AMQPValue::Void);
        }
        table
    }
}

/// Calls `header` with the headers of a message, but for those that properties stand for.
fn headers(message: &Message, mut header: impl FnMut(&str, &[u8])) -> Properties {
    let of_event = message.envelope.is_some();
    // Of several, none is the one.
    let has_id = !of_event && message.headers.iter().filter(|(name, _)| *name == MESSAGE_ID).count() == 1;
    let mut properties = Properties::default();
    cloudevents::write_binary(message, |name, value| {
        match name {
            ID if of_event && properties.message_id.is_none() => properties.message_id = short(value),
            MESSAGE_ID if has_id => {
                properties.message_id = short(value);
                if properties.message_id.is_some() {
                    return;
                }
            }
            cloudevents::CONTENT_TYPE => {
                properties.content_type = short(value);
                if properties.content_type.is_some() {
                    return;
                }
            }
            _ => {}
        }
        header(name, value);
    });
    properties
}

fn short(text: &[u8]) -> Option<ShortString> {
    ShortString::try_new(std::str::from_utf8(text).ok()?).ok()
}

fn bytes(value: &[u8]) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn add(table: &mut Table, name: ShortString, value: &[u8]) {
    match table.entry(name) {
        Entry::Vacant(free) => {
            free.insert(bytes(value));
        }
        Entry::Occupied(mut there) => match there.get_mut() {
            AMQPValue::FieldArray(values) => values.push(bytes(value)),
            one => {
                let first = std::mem::replace(one, AMQPValue::Void);
                *one = AMQPValue::FieldArray(vec![first, bytes(value)].into());
            }
        },
    }
}
