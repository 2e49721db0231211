//! Encryption and authentication: from the address's user, password and options to the client's settings.

use messaging::{Address, Error, Options};

use crate::config::wrong;

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Takes `tls`, `ca_file`, `cert_file`, `private_key_file`, `private_key_password` and `sasl_mechanism`. An address with a user
/// authenticates, by SCRAM-SHA-512 unless it says otherwise.
///
/// # Errors
/// [`ErrorKind::Config`](messaging::ErrorKind::Config): half a pair of options, an unknown mechanism, or the crate was
/// built without its feature `tls`.
pub(crate) fn settings(address: &Address, options: &mut Options) -> Result<Vec<(&'static str, String)>, Error> {
    let ca: Option<String> = options.take("ca_file")?;
    let certificate: Option<String> = options.take("cert_file")?;
    let key: Option<String> = options.take("private_key_file")?;
    let key_password: Option<String> = options.take("private_key_password")?;
    let asks = ca.is_some() || certificate.is_some() || key.is_some();
    let tls = options.take("tls")?.unwrap_or(asks);
    let mechanism: Option<String> = options.take("sasl_mechanism")?;
    if asks && !tls {
        return Err(wrong("options \"tls_…\" are given, but \"tls\" is false"));
    }
    if certificate.is_some() != key.is_some() {
        return Err(wrong("options \"cert_file\" and \"private_key_file\" belong together"));
    }
    let mut settings = Vec::new();
    let sasl = match (&address.user, &address.password) {
        (Some(user), Some(password)) => {
            let mechanism = mechanism.unwrap_or_else(|| "SCRAM-SHA-512".to_owned());
            if !MECHANISMS.contains(&mechanism.as_str()) {
                let known = MECHANISMS.join(", ");
                return Err(wrong(format!("option \"sasl_mechanism\" is {mechanism:?}; there are: {known}")));
            }
            settings.push(("sasl.mechanism", mechanism));
            settings.push(("sasl.username", user.clone()));
            settings.push(("sasl.password", password.clone()));
            true
        }
        (None, None) if mechanism.is_some() => {
            return Err(wrong("option \"sasl_mechanism\" needs a user and password: kafka://user:password@host:9092"));
        }
        (None, None) => false,
        _ => return Err(wrong("a kafka address with a user has a password: kafka://user:password@host:9092")),
    };
    if (tls || sasl) && !cfg!(feature = "tls") {
        let what = if tls { "option \"tls\"" } else { "a user in the address" };
        return Err(wrong(format!("{what} needs the feature `tls` of messaging-kafka, which this program lacks")));
    }
    let protocol = match (tls, sasl) {
        (false, false) => return Ok(settings),
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    settings.push(("security.protocol", protocol.to_owned()));
    let files = [
        ("ssl.ca.location", ca),
        ("ssl.certificate.location", certificate),
        ("ssl.key.location", key),
        ("ssl.key.password", key_password),
    ];
    settings.extend(files.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Vec<(&'static str, String)>, String> {
        let address: Address = url.parse().unwrap();
        settings(&address, &mut address.options()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_asked_nothing_set() {
        assert_eq!(read("kafka://a"), Ok(Vec::new()));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(read("kafka://a?tls=false&ca_file=/ca").unwrap_err().contains("tls"));
        assert!(read("kafka://a?cert_file=/c").unwrap_err().contains("private_key_file"));
        assert!(read("kafka://a?sasl_mechanism=PLAIN").unwrap_err().contains("user"));
        assert!(read("kafka://u@a").unwrap_err().contains("password"));
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn without_the_feature_the_error_names_it() {
        for url in ["kafka://a?tls=true", "kafka://u:p@a"] {
            assert!(read(url).unwrap_err().contains("feature `tls`"));
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_user_over_tls_authenticates_by_scram() {
        let settings = read("kafka://u:p%40@a?ca_file=/ca").unwrap();
        let get = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(get("security.protocol"), Some("sasl_ssl"));
        assert_eq!((get("sasl.mechanism"), get("sasl.password")), (Some("SCRAM-SHA-512"), Some("p@")));
        assert!(read("kafka://u:p@a?sasl_mechanism=GSSAPI").unwrap_err().contains("GSSAPI"));
    }
}
