//! The settings file: TOML whose keys are the names of settings in lower case, and tables of topics.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::setting::{Setting, SettingError};
use super::topics::{self, TopicSettings};

/// The key under which topics are described.
const TOPICS: &str = "topics";

/// A settings file that was read: the texts of settings, and topics.
pub(super) struct SettingsFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
    topics: Vec<TopicSettings>,
}

impl fmt::Debug for SettingsFile {
    /// Says only which file: its values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

impl SettingsFile {
    /// Reads the file at this path, which may hold these settings and topics.
    pub(super) fn read(path: &Path, known: &[Setting]) -> Result<Self, SettingError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            SettingError::new(name.clone(), format_args!("cannot read this settings file: {error}"))
        })?;
        let table: toml::Table = text.parse().map_err(|error| SettingError::new(name.clone(), told(&text, &error)))?;
        let mut file = Self { path: path.to_owned(), values: BTreeMap::new(), topics: Vec::new() };
        for (key, value) in table {
            let within = |reason: String| SettingError::new(name.clone(), format_args!("{key}: {reason}"));
            if key == TOPICS {
                file.topics = topics::read(value).map_err(|reason| SettingError::new(name.clone(), reason))?;
            } else if known.iter().any(|setting| setting.key() == key) {
                file.values.insert(key.clone(), plain(value).map_err(within)?);
            } else {
                let keys: Vec<_> = known.iter().map(Setting::key).chain([TOPICS.to_owned()]).collect();
                return Err(within(format!("there is no such setting; there are: {}", keys.join(", "))));
            }
        }
        Ok(file)
    }

    /// The setting's text, unless it is absent or empty.
    pub(super) fn value(&self, setting: &Setting) -> Option<&str> {
        self.values.get(&setting.key()).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The topics that it describes.
    pub(super) fn topics(&self) -> &[TopicSettings] {
        &self.topics
    }
}

/// A value as it would stand in the environment.
fn plain(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        other => {
            Err(format!("expected a text, a whole number, true or false, found a value of type {}", other.type_str()))
        }
    }
}

/// What is wrong and in which line; the line itself may hold a secret.
fn told(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let place = line.map(|line| format!("line {line} ")).unwrap_or_default();
    format!("{place}is no TOML: {}", error.message())
}
