//! An e-mail address that one can send to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest address that fits into an SMTP envelope (RFC 5321, 4.5.3.1.3, less the brackets).
const MAX_LEN: usize = 254;

/// A valid e-mail address: a bare `local@domain.tld`, without display name or domain literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

/// Why a text is not an [`EmailAddress`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmailAddressError {
    /// The parser refused it.
    #[error("not an e-mail address: {0}")]
    Malformed(#[from] email_address::Error),
    /// Longer than mail servers take.
    #[error("not an e-mail address: longer than {MAX_LEN} bytes")]
    TooLong,
}

impl EmailAddress {
    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = EmailAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > MAX_LEN {
            return Err(EmailAddressError::TooLong);
        }
        let options =
            email_address::Options::default().with_required_tld().without_display_text().without_domain_literal();
        email_address::EmailAddress::parse_with_options(&text, options)?;
        Ok(Self(text))
    }
}

impl FromStr for EmailAddress {
    type Err = EmailAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_pass() {
        for address in ["user@example.com", "first.last+tag@mail.example.org", "jürgen@example.de"] {
            assert_eq!(address.parse::<EmailAddress>().unwrap().as_str(), address);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "user",
            "user@",
            "@example.com",
            "user@localhost",
            "user@[127.0.0.1]",
            "User <user@example.com>",
            "<user@example.com>",
            "a@b@example.com",
            "user@example..com",
            "user@example.com\r\nBcc: all@example.com",
            "user@example.com\0",
            " user@example.com",
        ] {
            assert!(text.parse::<EmailAddress>().is_err(), "{text:?} was accepted");
        }
        let long = format!("user@{}example.com", "a.".repeat(130));
        assert_eq!(long.parse::<EmailAddress>(), Err(EmailAddressError::TooLong));
    }
}
