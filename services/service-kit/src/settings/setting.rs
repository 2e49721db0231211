//! [`Setting`]: the name, default and meaning of one setting; tables of them for `--help` and for documents.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

/// One setting: a variable of the environment, and a key of the settings file under the same name in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    name: &'static str,
    about: &'static str,
    default: Option<&'static str>,
    expected: &'static str,
    secret: bool,
}

impl Setting {
    /// A setting without a default. `about` says in half a sentence what it decides.
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, default: None, expected: "", secret: false }
    }

    /// With what counts where nobody sets it.
    pub const fn default(self, text: &'static str) -> Self {
        Self { default: Some(text), ..self }
    }

    /// With what a value looks like, for errors.
    pub const fn expected(self, what: &'static str) -> Self {
        Self { expected: what, ..self }
    }

    /// As one whose value is never shown.
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Its name in the environment.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its key in a settings file.
    pub fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// What counts where nobody sets it.
    pub const fn default_text(&self) -> Option<&'static str> {
        self.default
    }

    /// What a value looks like.
    pub(super) const fn expectation(&self) -> &'static str {
        self.expected
    }

    /// Whether its value may hold a secret.
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// An error about it. The reason must not repeat the value of a setting that may hold a secret.
    pub fn error(&self, reason: impl fmt::Display) -> SettingError {
        SettingError::new(self.name, reason)
    }
}

/// A setting that cannot be used, and why.
///
/// The reason never repeats the value of a setting that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct SettingError {
    name: Cow<'static, str>,
    reason: String,
}

impl SettingError {
    /// An error about the setting called `name`.
    pub fn new(name: impl Into<Cow<'static, str>>, reason: impl fmt::Display) -> Self {
        Self { name: name.into(), reason: reason.to_string() }
    }

    /// The setting that is wrong.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A table of settings for a document in Markdown.
pub fn markdown(settings: &[Setting]) -> String {
    let mut table = "| environment | settings file | default | |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in settings {
        let default = setting.default.map(|text| format!("`{text}`")).unwrap_or_default();
        // Writing to a text cannot fail.
        let _ = writeln!(table, "| `{}` | `{}` | {default} | {} |", setting.name, setting.key(), setting.about);
    }
    table
}

/// The same for a terminal.
pub fn help(settings: &[Setting]) -> String {
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
    let mut text = "Settings, from the environment, or in lower case from the settings file:\n".to_owned();
    for setting in settings {
        let default = setting.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
        let about = setting.about.replace('`', "");
        let _ = writeln!(text, "  {:width$}  {about}{default}", setting.name);
    }
    text
}
