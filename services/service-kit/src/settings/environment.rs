//! [`Environment`]: where the values of settings come from, and reading them with errors that name the setting.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::file::SettingsFile;
use super::setting::{Setting, SettingError};
use super::topics::TopicSettings;

/// Where settings come from: the process's environment, or fixed pairs in a test; then the settings file.
///
/// A variable that is set to nothing counts as not set, as a compose file's `${NAME:-}` expects.
#[derive(Clone)]
pub struct Environment {
    variables: Variables,
    file: Option<Arc<SettingsFile>>,
}

#[derive(Clone)]
enum Variables {
    Process,
    Fixed(HashMap<String, String>),
}

/// Where the value of a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Environment,
    /// The settings file.
    File,
    /// Nobody set it: its default.
    Default,
    /// Nobody set it, and it has no default.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::File => "settings file",
            Self::Default => "default",
            Self::Unset => "not set",
        })
    }
}

impl fmt::Debug for Environment {
    /// Says only where settings come from: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables = match self.variables {
            Variables::Process => "process",
            Variables::Fixed(_) => "fixed",
        };
        f.debug_struct("Environment").field("variables", &variables).field("file", &self.file).finish()
    }
}

impl Environment {
    /// Names the settings file where no argument does. Only in the environment.
    pub const SETTINGS_FILE: Setting =
        Setting::new("SETTINGS_FILE", "the settings file, where `--config` names none; in the environment only");

    /// The environment of this process.
    pub fn process() -> Self {
        Self { variables: Variables::Process, file: None }
    }

    /// Exactly these settings and no others.
    pub fn fixed<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables: Variables::Fixed(pairs), file: None }
    }

    /// With the settings file at this path, or at the one that `SETTINGS_FILE` names, beneath the environment.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or has a key that is none of `known`; the error names the file and the key.
    pub fn with_file(self, path: Option<&Path>, known: &[Setting]) -> Result<Self, SettingError> {
        let named = self.variable(Self::SETTINGS_FILE.name())?;
        let Some(path) = path.or(named.as_deref().map(Path::new)) else { return Ok(self) };
        let file = SettingsFile::read(path, known)?;
        Ok(Self { file: Some(Arc::new(file)), ..self })
    }

    /// The topics that the settings file describes.
    pub fn topics(&self) -> &[TopicSettings] {
        self.file.as_ref().map_or(&[], |file| file.topics())
    }

    /// What the environment says of these settings if it says anything of any, else what the settings file says: for
    /// settings that stand for each other.
    ///
    /// # Errors
    /// A value is not UTF-8.
    pub fn any_of(&self, settings: &[Setting]) -> Result<Vec<(String, String)>, SettingError> {
        let mut set = Vec::new();
        for setting in settings {
            set.extend(self.variable(setting.name())?.map(|value| (setting.name().to_owned(), value)));
        }
        if let Some(file) = self.file.as_ref().filter(|_| set.is_empty()) {
            let values = settings.iter().filter_map(|setting| Some((setting.name(), file.value(setting)?)));
            set.extend(values.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        Ok(set)
    }

    /// The setting's text, or `None` when it is absent or empty. Its default is not looked at.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn text(&self, setting: Setting) -> Result<Option<String>, SettingError> {
        let value = self.variable(setting.name())?;
        Ok(value.or_else(|| self.file.as_ref()?.value(&setting).map(str::to_owned)))
    }

    /// Where the setting's value comes from.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn origin(&self, setting: Setting) -> Result<Origin, SettingError> {
        let in_file = || self.file.as_ref().is_some_and(|file| file.value(&setting).is_some());
        Ok(match self.variable(setting.name())? {
            Some(_) => Origin::Environment,
            None if in_file() => Origin::File,
            None if setting.default_text().is_some() => Origin::Default,
            None => Origin::Unset,
        })
    }

    /// The setting's text.
    ///
    /// # Errors
    /// The setting is absent; the error shows `example`.
    pub fn required(&self, setting: Setting, example: &str) -> Result<String, SettingError> {
        self.text(setting)?.ok_or_else(|| setting.error(format_args!("is not set (example: {example})")))
    }

    /// The setting parsed, or its default, or `None` if it has neither.
    ///
    /// # Errors
    /// The value does not parse; the error says what was expected, and repeats what was found unless it is a secret.
    pub fn optional<T: FromStr>(&self, setting: Setting) -> Result<Option<T>, SettingError> {
        let Some(text) = self.text(setting)?.or_else(|| setting.default_text().map(str::to_owned)) else {
            return Ok(None);
        };
        let expected = setting.expectation();
        text.parse().map(Some).map_err(|_| match setting.is_secret() {
            true => setting.error(format_args!("expected {expected}")),
            false => setting.error(format_args!("expected {expected}, found `{text}`")),
        })
    }

    /// The setting parsed, or its default.
    ///
    /// # Errors
    /// As [`optional`](Self::optional), or it has no default and is not set.
    pub fn parsed<T: FromStr>(&self, setting: Setting) -> Result<T, SettingError> {
        self.optional(setting)?
            .ok_or_else(|| setting.error(format_args!("is not set, expected {}", setting.expectation())))
    }

    fn variable(&self, name: &'static str) -> Result<Option<String>, SettingError> {
        let value = match &self.variables {
            Variables::Process => match std::env::var_os(name) {
                Some(value) => Some(value.into_string().map_err(|_| SettingError::new(name, "is not valid UTF-8"))?),
                None => None,
            },
            Variables::Fixed(pairs) => pairs.get(name).cloned(),
        };
        Ok(value.filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::SocketAddr;

    use super::*;

    const ADDRESS: Setting = Setting::new("LISTEN_ADDR", "where").default("0.0.0.0:8000").expected("an address");
    const URL: Setting = Setting::new("DATABASE_URL", "which").secret();
    const KNOWN: &[Setting] = &[ADDRESS, URL];

    fn none() -> Environment {
        Environment::fixed::<String, String>([])
    }

    fn over(variables: Environment, text: &str) -> Result<Environment, SettingError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        variables.with_file(Some(file.path()), KNOWN)
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        let error = Environment::fixed([("LISTEN_ADDR", "everywhere")]).parsed::<SocketAddr>(ADDRESS).unwrap_err();
        assert_eq!(error.name(), "LISTEN_ADDR");
        assert_eq!(error.to_string(), "LISTEN_ADDR: expected an address, found `everywhere`");
    }

    #[test]
    fn an_absent_or_empty_setting_takes_the_default() {
        for environment in [none(), Environment::fixed([("LISTEN_ADDR", "")])] {
            assert_eq!(environment.parsed::<SocketAddr>(ADDRESS).unwrap().to_string(), "0.0.0.0:8000");
            assert_eq!(environment.origin(ADDRESS).unwrap(), Origin::Default);
        }
    }

    #[test]
    fn a_required_setting_shows_an_example() {
        let error = none().required(URL, "sqlite:orders.db").unwrap_err();
        assert_eq!(error.to_string(), "DATABASE_URL: is not set (example: sqlite:orders.db)");
    }

    #[test]
    fn debug_shows_no_values() {
        let environment =
            over(Environment::fixed([("A", "hunter2")]), "database_url = 'postgres://u:hunter2@db/o'").unwrap();
        assert!(!format!("{environment:?}").contains("hunter2"));
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = "listen_addr = '127.0.0.1:1'\ndatabase_url = 'sqlite:file.db'";
        let environment = over(Environment::fixed([("LISTEN_ADDR", "127.0.0.1:2")]), file).unwrap();
        assert_eq!(environment.parsed::<SocketAddr>(ADDRESS).unwrap().port(), 2);
        assert_eq!(environment.origin(ADDRESS).unwrap(), Origin::Environment);
        assert_eq!(environment.text(URL).unwrap().unwrap(), "sqlite:file.db");
        assert_eq!(environment.origin(URL).unwrap(), Origin::File);
    }

    #[test]
    fn settings_that_stand_for_each_other_come_from_one_place() {
        let file = "listen_addr = '127.0.0.1:1'\ndatabase_url = 'sqlite:file.db'";
        let environment = over(Environment::fixed([("LISTEN_ADDR", "127.0.0.1:2")]), file).unwrap();
        assert_eq!(environment.any_of(KNOWN).unwrap(), [("LISTEN_ADDR".to_owned(), "127.0.0.1:2".to_owned())]);
        assert_eq!(over(none(), file).unwrap().any_of(KNOWN).unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = over(none(), "listen_adress = '127.0.0.1:1'").unwrap_err().to_string();
        assert!(error.contains(": listen_adress: there is no such setting; there are: listen_addr, "), "{error}");
    }

    #[test]
    fn a_broken_file_is_named_with_its_line_and_without_its_text() {
        let error = over(none(), "# ours\ndatabase_url = postgres://u:hunter2@db/o").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        let error = over(none(), "database_url = ['hunter2']").unwrap_err().to_string();
        assert!(error.contains(": database_url: expected a text") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let environment = Environment::fixed([("SETTINGS_FILE", "/no/such/settings.toml")]);
        let error = environment.with_file(None, KNOWN).unwrap_err();
        assert_eq!(error.name(), "/no/such/settings.toml");
    }
}
