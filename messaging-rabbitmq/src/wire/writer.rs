//! [`Writer`]: writes messages as AMQP properties.
//!
//! A table of AMQP is a sorted map that owns its names. Nearly all messages have the headers of others before them, so that
//! nothing is sorted or looked up for these: their properties are copied from their [`Form`], and filled.

use std::collections::btree_map::Entry;

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};
use messaging::{Message, cloudevents};

use super::{
    form::{Form, Forms, Table},
    parts::{ESCAPE, KEY, Part, SHORT, parts},
};

const PERSISTENT: u8 = 2;

/// Writes messages as AMQP properties.
pub(crate) struct Writer {
    prefix: String,
    forms: Forms,
    /// An emptied buffer: what the headers of a message hold.
    values: Vec<AMQPValue>,
}

impl Writer {
    /// One that writes attributes with this prefix.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), forms: Forms::default(), values: Vec::new() }
    }

    /// The AMQP properties of a message.
    ///
    /// # Errors
    /// What does not fit into AMQP.
    pub(crate) fn properties(&mut self, message: &Message) -> Result<BasicProperties, String> {
        let Self { forms, values, .. } = self;
        values.clear();
        values.extend(message.key.iter().map(|key| bytes(key)));
        let mut found = forms.search(message);
        let mut message_id = None;
        parts(message, |part| match part {
            Part::MessageId(id) => message_id = ShortString::try_new(id).ok(),
            part => {
                if found.narrow(&part)
                    && let Part::Header(_, value) = part
                {
                    values.push(bytes(value));
                }
            }
        });
        let properties = match found.form() {
            Some(form) => form.filled(values),
            None => self.learn(message)?,
        };
        Ok(match message_id {
            Some(id) => properties.with_message_id(id),
            None => properties,
        })
    }

    /// The properties of a message of no known form, without its id.
    fn learn(&mut self, message: &Message) -> Result<BasicProperties, String> {
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        if let Some(name) = message.envelope.as_ref().and_then(|envelope| short(&envelope.name)) {
            properties = properties.with_type(name);
        }
        let (mut table, mut names, mut too_long, mut content_type) = (Table::new(), Vec::new(), None, None);
        if let Some(key) = &message.key {
            table.insert(KEY.into(), bytes(key));
            names.push(KEY.into());
        }
        parts(message, |part| match part {
            Part::MessageId(_) => {}
            Part::ContentType(text) => content_type = short(text),
            Part::Header(name, value) => match self.written(name, message.envelope.is_some()) {
                Ok(written) => {
                    names.push(written.clone());
                    add(&mut table, written, value);
                }
                Err(name) => too_long = Some(name),
            },
        });
        if let Some(name) = too_long {
            return Err(format!("the header {name:?} has a name of more than {SHORT} bytes"));
        }
        if let Some(content_type) = content_type {
            properties = properties.with_content_type(content_type);
        }
        // A name that stands more than once has no place of its own in the table.
        if table.len() == names.len() {
            self.forms.add(|| Form::new(message, properties.clone(), &names, &table));
        }
        Ok(if table.is_empty() { properties } else { properties.with_headers(table.into()) })
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

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
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
