//! Reading settings from the environment, with errors that name the setting.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A setting that cannot be used, and why.
///
/// The reason never repeats the value of a setting that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct SettingError {
    name: &'static str,
    reason: String,
}

impl SettingError {
    /// An error about the setting called `name`.
    pub fn new(name: &'static str, reason: impl fmt::Display) -> Self {
        Self { name, reason: reason.to_string() }
    }

    /// The setting that is wrong.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Where settings come from: the process's environment, or fixed pairs in a test.
///
/// A variable that is set to nothing counts as not set, as a compose file's `${NAME:-}` expects.
#[derive(Clone)]
pub struct Environment(Source);

#[derive(Clone)]
enum Source {
    Process,
    Fixed(HashMap<String, String>),
}

impl fmt::Debug for Environment {
    /// Says only where settings come from: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Process => "Environment(process)",
            Source::Fixed(_) => "Environment(fixed)",
        })
    }
}

impl Environment {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(Source::Process)
    }

    /// Exactly these settings and no others.
    pub fn fixed<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Source::Fixed(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect()))
    }

    /// All settings that are valid UTF-8, for those who look for a group of them.
    pub fn variables(&self) -> Vec<(String, String)> {
        match &self.0 {
            Source::Process => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            Source::Fixed(pairs) => pairs.clone().into_iter().collect(),
        }
    }

    /// The setting's text, or `None` when it is absent or empty.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, SettingError> {
        let value = match &self.0 {
            Source::Process => match std::env::var_os(name) {
                Some(value) => Some(value.into_string().map_err(|_| SettingError::new(name, "is not valid UTF-8"))?),
                None => None,
            },
            Source::Fixed(pairs) => pairs.get(name).cloned(),
        };
        Ok(value.filter(|text| !text.is_empty()))
    }

    /// The setting's text.
    ///
    /// # Errors
    /// The setting is absent; the error shows `example`.
    pub fn required(&self, name: &'static str, example: &str) -> Result<String, SettingError> {
        self.text(name)?.ok_or_else(|| SettingError::new(name, format_args!("is not set (example: {example})")))
    }

    /// The setting parsed, or `default` when it is absent.
    ///
    /// # Errors
    /// The value does not parse; the error repeats it and says what was `expected`, so this is not
    /// for settings that may hold a secret.
    pub fn parsed<T: FromStr>(&self, name: &'static str, default: T, expected: &str) -> Result<T, SettingError> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| SettingError::new(name, format_args!("expected {expected}, found `{text}`")))
            }
        }
    }

    /// `LISTEN_ADDR`: the address a process serves HTTP on, `0.0.0.0:8000` by default.
    ///
    /// # Errors
    /// The value is not an IP address with a port.
    pub fn listen_addr(&self) -> Result<SocketAddr, SettingError> {
        self.parsed(
            "LISTEN_ADDR",
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            "an IP address and a port such as 0.0.0.0:8000",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        let error = Environment::fixed([("LISTEN_ADDR", "everywhere")]).listen_addr().unwrap_err();
        assert_eq!(error.name(), "LISTEN_ADDR");
        assert_eq!(
            error.to_string(),
            "LISTEN_ADDR: expected an IP address and a port such as 0.0.0.0:8000, found `everywhere`"
        );
    }

    #[test]
    fn an_absent_or_empty_setting_takes_the_default() {
        for environment in [Environment::fixed::<String, String>([]), Environment::fixed([("LISTEN_ADDR", "")])] {
            assert_eq!(environment.listen_addr().unwrap().to_string(), "0.0.0.0:8000");
        }
    }

    #[test]
    fn a_required_setting_shows_an_example() {
        let error = Environment::fixed::<String, String>([]).required("DATABASE_URL", "sqlite:orders.db").unwrap_err();
        assert_eq!(error.to_string(), "DATABASE_URL: is not set (example: sqlite:orders.db)");
    }

    #[test]
    fn debug_shows_no_values() {
        let environment = Environment::fixed([("SMTP_URL", "smtp://user:hunter2@mail")]);
        assert!(!format!("{environment:?}").contains("hunter2"));
    }
}
