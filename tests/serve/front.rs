//! TLS servers for tests: certificates of an authority made on the spot, and a front that relays to a plain server.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::server::TlsStream;

/// Someone who signs certificates.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server shows: its certificate, and the key to it.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    Past,
}

/// How a TLS server takes its leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    Said,
    Unsaid,
}

fn params(names: &[&str], is_ca: IsCa) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.is_ca = is_ca;
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&[], IsCa::Ca(BasicConstraints::Unconstrained));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, name: &str, validity: Validity) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&[name], IsCa::NoCa);
        if validity == Validity::Past {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(&certificate, &key)
    }

    /// Its certificate as a file for `--ca-file`.
    pub fn file(&self, directory: &Path) -> PathBuf {
        pem_file(directory, &self.certificate.pem())
    }
}

/// What `openssl req -x509` makes: a certificate that is its own authority. Its file comes with it.
pub fn self_signed(name: &str, directory: &Path) -> (Identity, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(&[name], IsCa::Ca(BasicConstraints::Unconstrained)).self_signed(&key).unwrap();
    let file = pem_file(directory, &certificate.pem());
    (Identity::new(&certificate, &key), file)
}

pub fn pem_file(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("certificates.pem");
    std::fs::write(&file, text).unwrap();
    file
}

impl Identity {
    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Self { certificate: certificate.der().clone(), key }
    }

    fn acceptor(self, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate], self.key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Serves each TLS connection by `serve` on this runtime: the port.
async fn listen<F, Serving>(acceptor: TlsAcceptor, serve: F) -> u16
where
    F: Fn(TlsStream<TcpStream>) -> Serving + Clone + Send + 'static,
    Serving: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), serve.clone());
            tokio::spawn(async move {
                socket.set_nodelay(true).unwrap();
                if let Ok(tls) = acceptor.accept(socket).await {
                    serve(tls).await;
                }
            });
        }
    });
    port
}

/// A front that relays what it decrypts to a plain server and back.
pub async fn relay(identity: Identity, to: SocketAddr) -> u16 {
    relay_by(identity, &[&TLS12, &TLS13], to).await
}

/// The same with TLS 1.2 alone.
pub async fn relay_by_tls12(identity: Identity, to: SocketAddr) -> u16 {
    relay_by(identity, &[&TLS12], to).await
}

async fn relay_by(identity: Identity, versions: &[&'static SupportedProtocolVersion], to: SocketAddr) -> u16 {
    let serve = move |mut tls| async move {
        let mut server = TcpStream::connect(to).await.unwrap();
        server.set_nodelay(true).unwrap();
        let _ = copy_bidirectional(&mut tls, &mut server).await;
    };
    listen(identity.acceptor(versions), serve).await
}

/// A server with the same answer to everybody, after which it closes the connection.
pub async fn answer(identity: Identity, answer: String, goodbye: Goodbye) -> u16 {
    let answer: Arc<str> = answer.into();
    let serve = move |mut tls: TlsStream<TcpStream>| {
        let answer = Arc::clone(&answer);
        async move {
            let mut request = vec![0; 1 << 16];
            let mut seen = Vec::new();
            // Its body is short and ends the request: `…}`.
            while !seen.ends_with(b"}") {
                match tls.read(&mut request).await {
                    Ok(count) if 0 < count => seen.extend_from_slice(&request[..count]),
                    _ => return,
                }
            }
            tls.write_all(answer.as_bytes()).await.unwrap();
            tls.flush().await.unwrap();
            if goodbye == Goodbye::Said {
                let _ = tls.shutdown().await;
            }
        }
    };
    listen(identity.acceptor(&[&TLS12, &TLS13]), serve).await
}
