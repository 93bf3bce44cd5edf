//! Authorities, certificates, clients and backends that speak TLS, rightly and wrongly.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedProtocolVersion,
};

use crate::backend::{Seen, request};
use crate::client::{Answer, Client, Wire, ask_on};
use crate::secret_files::private;
use crate::spool_site::Folder;

/// A file of a folder, written at once: the old one is there until the new one is whole.
pub(crate) fn put(folder: &Folder, name: &str, text: &str) -> String {
    let (path, new) = (folder.path().join(name), folder.path().join("new"));
    private(&new, text);
    std::fs::rename(&new, &path).unwrap();
    path.display().to_string()
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Identity {
    /// Both in one text.
    pub(crate) fn combined(&self) -> String {
        format!("{}{}", self.cert, self.key)
    }

    /// Signed by itself, and an authority, as `openssl req -x509` makes them.
    pub(crate) fn own(names: &[&str]) -> Self {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes());
        chain.map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// What a server shows with it; `clients` signs those of its clients.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_single_cert(self.chain(), self.key()).unwrap())
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "someone");
    params
}

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for these names and addresses.
    pub(crate) fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(params(names))
    }

    /// One that was good once.
    pub(crate) fn sign_expired(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign_with(params)
    }

    fn sign_with(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(own).unwrap();
        roots
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> Shaking {
        Shaking {
            roots: self.roots(),
            identity: None,
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            pace: usize::MAX,
        }
    }
}

/// How a client shakes hands.
#[derive(Clone)]
pub(crate) struct Shaking {
    roots: RootCertStore,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    pace: usize,
}

impl Shaking {
    /// Shows a certificate of its own.
    pub(crate) fn showing(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Speaks TLS 1.2 only.
    pub(crate) fn tls12(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS12];
        self
    }

    /// Sends so many bytes at a time, each in a segment of its own.
    pub(crate) fn paced(mut self, bytes: usize) -> Self {
        self.pace = bytes;
        self
    }

    /// A connection, its handshake done.
    pub(crate) fn connect(&self, address: &str) -> std::io::Result<Tls> {
        let mut tls = self.begin(address);
        while tls.0.conn.is_handshaking() {
            tls.0.conn.complete_io(&mut tls.0.sock)?;
        }
        Ok(tls)
    }

    /// A connection before its handshake.
    pub(crate) fn begin(&self, address: &str) -> Tls {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(own.chain(), own.key())
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let wait = Some(Duration::from_secs(20));
        stream.set_read_timeout(wait).unwrap();
        let stream = Paced(stream, self.pace);
        Tls(StreamOwned::new(session, stream))
    }

    /// A client on a connection of its own.
    pub(crate) fn to(&self, address: &str) -> Client {
        Client::on(Box::new(self.connect(address).unwrap()))
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, address: &str, method: &str, target: &str, body: &[u8]) -> Answer {
        ask_on(&mut self.to(address), method, target, "", body)
    }

    /// One write.
    pub(crate) fn write(&self, address: &str, body: &str) -> Answer {
        self.ask(address, "POST", "/write?db=x", body.as_bytes())
    }
}

/// TLS on TCP.
pub(crate) struct Tls(pub(crate) StreamOwned<ClientConnection, Paced>);

impl Tls {
    /// The certificate that the server has shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Wire for Tls {
    fn end(&mut self) {
        self.0.conn.send_close_notify();
        let _already = self.0.flush();
        let _already = self.0.sock.0.shutdown(std::net::Shutdown::Write);
    }
}

/// TCP, some bytes at a time.
pub(crate) struct Paced(pub(crate) TcpStream, usize);

impl Read for Paced {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// What a backend does with a request that is no probe.
#[derive(Clone)]
pub(crate) enum Say {
    /// Sends these bytes, and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes, says that there are no more, and closes.
    AndEnd(Vec<u8>),
    /// Sends these bytes, and closes without a word.
    AndBreakOff(Vec<u8>),
}

/// What accepts a write.
pub(crate) fn accepted() -> Say {
    Say::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
}

/// A backend that speaks TLS.
pub(crate) struct Secure {
    /// Its port, on loopback.
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    probes: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
}

impl Secure {
    /// It says this to everything but probes.
    pub(crate) fn new(config: Arc<ServerConfig>, say: Say) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").unwrap(), config, say)
    }

    /// The same, at a listener that there is.
    pub(crate) fn over(listener: TcpListener, config: Arc<ServerConfig>, say: Say) -> Self {
        let backend = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            probes: Arc::default(),
            resumed: Arc::default(),
        };
        let (seen, probes) = (Arc::clone(&backend.seen), Arc::clone(&backend.probes));
        let resumed = Arc::clone(&backend.resumed);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, say) = (Arc::clone(&config), say.clone());
                let (seen, probes) = (Arc::clone(&seen), Arc::clone(&probes));
                let resumed = Arc::clone(&resumed);
                thread::spawn(move || serve(stream, config, &say, &seen, &probes, &resumed));
            }
        });
        backend
    }

    /// It accepts all writes.
    pub(crate) fn accepting(config: Arc<ServerConfig>) -> Self {
        Self::new(config, accepted())
    }

    /// Its location, by this name or address.
    pub(crate) fn at(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// What it was sent but for probes.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Probes that came through.
    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }

    /// Connections whose handshake was a short one.
    pub(crate) fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    say: &Say,
    seen: &Mutex<Vec<Seen>>,
    probes: &AtomicUsize,
    resumed: &AtomicUsize,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let session = ServerConnection::new(config).ok()?;
    let mut reader = BufReader::new(StreamOwned::new(session, stream));
    loop {
        let next = request(&mut reader)?;
        let tls = reader.get_mut();
        if next.head.starts_with("GET /ping") {
            if tls.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
                resumed.fetch_add(1, Ordering::Relaxed);
            }
            probes.fetch_add(1, Ordering::Relaxed);
            let pong = b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.test\r\n\r\n";
            tls.write_all(pong).ok()?;
            tls.flush().ok()?;
            continue;
        }
        seen.lock().unwrap().push(next);
        match say {
            Say::Bytes(bytes) => tls.write_all(bytes).and_then(|()| tls.flush()).ok()?,
            Say::AndBreakOff(bytes) => {
                return tls.write_all(bytes).and_then(|()| tls.flush()).ok();
            }
            Say::AndEnd(bytes) => {
                tls.write_all(bytes).ok()?;
                tls.conn.send_close_notify();
                return tls.flush().ok();
            }
        }
    }
}
