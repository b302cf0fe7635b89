use super::certificates::{AnyCertificate, Known};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use std::sync::Arc;

/// How to speak TLS with one server. All connections share the configuration, and with it the session tickets.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    verified: bool,
}

/// Which certificates of a server are accepted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that one of these authorities vouches for.
    Authorities {
        /// Of the system; one that cannot be read is passed over.
        system: Vec<CertificateDer<'static>>,
        /// Named by the user; a server's own certificate among them stands for itself.
        named: Vec<CertificateDer<'static>>,
    },
    /// Any: whoever answers is believed.
    Anyone,
}

/// A TLS configuration that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// PEM text without a certificate.
    #[error("it holds no certificate")]
    NoCertificate,
    /// A certificate that is none.
    #[error("certificate {number} in it cannot be read: {why}")]
    BadCertificate {
        /// Its place, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody is trusted.
    #[error("there is no certificate authority to check a certificate against")]
    NoAuthority,
}

impl Tls {
    /// TLS with the server of that name.
    pub(super) fn new(server_name: ServerName<'static>, trust: &Trust) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verified = matches!(trust, Trust::Authorities { .. });
        let config = match trust {
            Trust::Anyone => configuration(Arc::clone(&provider), AnyCertificate::new(&provider)),
            Trust::Authorities { system, named } => {
                let known = Known::new(authorities(system, named)?, named.clone(), Arc::clone(&provider));
                configuration(provider, known.ok_or(TlsError::NoAuthority)?)
            }
        };
        Ok(Self { config: Arc::new(config), server_name, verified })
    }

    /// TLS that believes nobody, as long as nobody said whom to believe.
    pub(super) fn distrustful(server_name: ServerName<'static>) -> Self {
        Self { config: Arc::new(distrustful()), server_name, verified: true }
    }

    /// The configuration of every connection.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The name that the certificate has to be for: of a host, or an address.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// False when any certificate is accepted.
    pub fn verified(&self) -> bool {
        self.verified
    }
}

/// A configuration that believes nobody: for a client that is not meant to speak TLS.
pub fn distrustful() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has cipher suites for every version of TLS");
    versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn configuration(
    provider: Arc<CryptoProvider>,
    verifier: impl rustls::client::danger::ServerCertVerifier + 'static,
) -> ClientConfig {
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has cipher suites for every version of TLS");
    let verified = versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn authorities(
    system: &[CertificateDer<'static>],
    named: &[CertificateDer<'static>],
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.iter().cloned());
    for (at, certificate) in named.iter().enumerate() {
        let bad = |error: rustls::Error| TlsError::BadCertificate { number: at + 1, why: error.to_string() };
        roots.add(certificate.clone()).map_err(bad)?;
    }
    Ok(roots)
}

/// The certificates in a PEM text, of which there is at least one.
///
/// # Errors
/// When there is none, or one is broken.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = found.len() + 1;
        let bad = |error: rustls::pki_types::pem::Error| TlsError::BadCertificate {
            number,
            why: error.to_string(),
        };
        found.push(certificate.map_err(bad)?);
    }
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

/// What went wrong with TLS, in words that say what to do where that is known.
pub fn tls_fault(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error {
        InvalidCertificate(fault) => certificate_fault(fault),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port (would http:// be right?)".to_owned()
        }
        AlertReceived(AlertDescription::CertificateRequired) => {
            "the server demands a certificate of the client, and pdbench has none".to_owned()
        }
        AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not speak HTTP/1.1 over TLS".to_owned()
        }
        AlertReceived(alert) => format!("the server refused TLS: {alert:?}"),
        other => other.to_string(),
    }
}

fn certificate_fault(fault: &CertificateError) -> String {
    match fault {
        CertificateError::UnknownIssuer => {
            "the server's certificate comes from an authority that is not known here: \
             name the authority's certificate with --ca-file"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "the server's certificate was not signed by the authority that is known here by its issuer's name: \
             name the right one with --ca-file"
                .to_owned()
        }
        CertificateError::Expired => "the server's certificate has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / 86_400;
            format!("the server's certificate expired {days} days ago")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server's certificate is for another name: {fault}")
        }
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "the server shows an authority's certificate as its own: if that is meant, name it with --ca-file"
                .to_owned()
        }
        _ => format!("the server's certificate cannot be accepted: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_without_a_certificate_is_refused() {
        assert_eq!(certificates(b""), Err(TlsError::NoCertificate));
        assert_eq!(certificates(b"\x30\x82\x01\x0a"), Err(TlsError::NoCertificate));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(certificates(cut), Err(TlsError::BadCertificate { number: 1, .. })));
        let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let trust = Trust::Authorities { system: Vec::new(), named: certificates(empty).unwrap() };
        let name = ServerName::try_from("x").unwrap();
        assert!(matches!(Tls::new(name, &trust), Err(TlsError::BadCertificate { number: 1, .. })));
    }

    #[test]
    fn trust_in_nobody_is_refused() {
        let trust = Trust::Authorities { system: Vec::new(), named: Vec::new() };
        let name = ServerName::try_from("x").unwrap();
        assert_eq!(Tls::new(name, &trust).err(), Some(TlsError::NoAuthority));
    }

    #[test]
    fn an_unknown_authority_points_at_ca_file() {
        let error = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(tls_fault(&error).contains("--ca-file"));
    }
}
