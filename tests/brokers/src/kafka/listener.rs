//! The doors of a Kafka node: who may come in, and how.

/// A further listener for clients, besides the plain one that every node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listener {
    /// TLS, without authentication unless [client certificates](super::KafkaOptions::client_certificates) are required.
    #[cfg(feature = "tls")]
    Tls,
    /// Password authentication (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) without encryption.
    Sasl,
    /// Password authentication over TLS.
    #[cfg(feature = "tls")]
    SaslTls,
}

impl Listener {
    /// Its name in the broker's configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls => "TLS",
            Self::Sasl => "SASL",
            #[cfg(feature = "tls")]
            Self::SaslTls => "SASLTLS",
        }
    }

    /// What clients set as `security.protocol`.
    #[must_use]
    pub fn security_protocol(self) -> &'static str {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls => "SSL",
            Self::Sasl => "SASL_PLAINTEXT",
            #[cfg(feature = "tls")]
            Self::SaslTls => "SASL_SSL",
        }
    }

    pub(super) fn has_passwords(self) -> bool {
        self.security_protocol().starts_with("SASL")
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::SaslTls)
    }
}
