//! Connecting and introducing oneself to a server, for the connections of feeds, services and appends.

use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use types::ServerUrl;

use super::connection::{Address, unavailable};
use super::wire::{self, Op};
use crate::{Error, Result};

/// How long connecting to one server may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// What is read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// How long a write may take.
const WRITING: Duration = Duration::from_secs(10);

/// A connection to a server that has accepted us.
pub(super) struct Link {
    stream: Box<dyn Duplex>,
    read: BytesMut,
    /// What the server told of itself.
    pub(super) info: Info,
}

/// The side of a connection that reads, for whoever writes at the same time.
pub(super) struct Reader {
    stream: ReadHalf<Box<dyn Duplex>>,
    read: BytesMut,
}

/// The side of a connection that writes.
pub(super) struct Writer {
    stream: WriteHalf<Box<dyn Duplex>>,
}

/// What carries the bytes: TCP, or TLS over it.
trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Duplex for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Duplex for TlsStream<Box<dyn Duplex>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.tcp()
    }
}

/// What a server tells of itself, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    nonce: String,
    #[serde(default)]
    tls_required: bool,
    /// The cluster that it is in, if it is in one.
    pub(super) cluster: Option<String>,
    /// The largest message that it takes, headers included, in bytes.
    pub(super) max_payload: Option<usize>,
}

impl Link {
    /// Connects to a server.
    pub(super) async fn open(server: &str, address: &Address, name: &str) -> Result<Self> {
        let opening = Self::introduce(server, address, name);
        timeout(CONNECTING, opening).await.map_err(|_| unavailable(format!("{} does not answer", host(server))))?
    }

    async fn introduce(server: &str, address: &Address, name: &str) -> Result<Self> {
        let server: ServerAddr = server.parse().map_err(|error| Error::Refused(format!("no server: {error}")))?;
        let tcp = TcpStream::connect((server.host(), server.port())).await.map_err(unavailable)?;
        tcp.set_nodelay(true).map_err(unavailable)?;
        let (stream, read) = (Box::new(tcp), BytesMut::with_capacity(READ_BYTES));
        let mut link = Self { stream, read, info: Info::default() };
        let Op::Info(info) = link.read().await? else { return Err(unavailable("no NATS server")) };
        link.info = parse_info(&info)?;
        if link.info.tls_required || server.tls_required() {
            link = link.encrypt(server.host()).await?;
        }
        let mut hello = b"CONNECT ".to_vec();
        hello.extend_from_slice(link.credentials(&server, address, name).await?.to_string().as_bytes());
        hello.extend_from_slice(b"\r\nPING\r\n");
        link.write(&hello).await?;
        loop {
            match link.read().await? {
                Op::Pong => return Ok(link),
                Op::Error(error) => return Err(unavailable(error)),
                _ => {}
            }
        }
    }

    async fn encrypt(self, host: &str) -> Result<Self> {
        let certificates = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.await.map_err(unavailable)?.certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.map_err(unavailable)?.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(unavailable)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.stream).await.map_err(unavailable)?;
        Ok(Self { stream: Box::new(stream), ..self })
    }

    /// Who we are: the name and password or the token in the server's address, or the credentials of a file.
    async fn credentials(&self, server: &ServerAddr, address: &Address, name: &str) -> Result<Value> {
        let mut hello = Map::new();
        let fixed = json!({
            "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1,
            "echo": true, "headers": true, "no_responders": true, "name": name,
            "tls_required": self.info.tls_required || server.tls_required(),
        });
        hello.extend(fixed.as_object().cloned().unwrap_or_default());
        match ServerUrl::from(server.as_url_str()).identity() {
            Some((user, Some(password))) => {
                hello.insert("user".into(), user.into());
                hello.insert("pass".into(), password.into());
            }
            Some((token, None)) => {
                hello.insert("auth_token".into(), token.into());
            }
            None => {}
        }
        if let Some(path) = &address.credentials {
            let unreadable = |error| Error::Refused(format!("{} cannot be read: {error}", path.display()));
            let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
            let bad = || Error::Refused(format!("{} holds no credentials", path.display()));
            let jwt = section(&text, "NATS USER JWT").ok_or_else(bad)?;
            let seed = section(&text, "USER NKEY SEED").ok_or_else(bad)?;
            let key = nkeys::KeyPair::from_seed(seed).map_err(|_| bad())?;
            let signature = key.sign(self.info.nonce.as_bytes()).map_err(|_| bad())?;
            hello.insert("jwt".into(), jwt.into());
            hello.insert("sig".into(), URL_SAFE_NO_PAD.encode(signature).into());
        }
        Ok(Value::Object(hello))
    }

    /// What the server says next. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<Op> {
        next(&mut self.stream, &mut self.read).await
    }

    /// What has been read and not looked at.
    pub(super) fn take(&mut self) -> Result<Option<Op>> {
        wire::take(&mut self.read).map_err(unavailable)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        write(&mut self.stream, bytes).await
    }

    /// Has the system throw away what the server has not taken when the connection is dropped. Otherwise it goes on
    /// sending that for minutes.
    pub(super) fn leave_nothing_behind(&self) -> Result<()> {
        self.stream.tcp().set_zero_linger().map_err(unavailable)
    }

    /// The two sides, which are used at the same time.
    pub(super) fn split(self) -> (Reader, Writer) {
        let (reading, writing) = tokio::io::split(self.stream);
        (Reader { stream: reading, read: self.read }, Writer { stream: writing })
    }
}

impl Reader {
    /// What the server says next. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<Op> {
        next(&mut self.stream, &mut self.read).await
    }
}

impl Writer {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        write(&mut self.stream, bytes).await
    }
}

async fn next(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Result<Op> {
    loop {
        if let Some(op) = wire::take(read).map_err(unavailable)? {
            return Ok(op);
        }
        read.reserve(READ_BYTES);
        if stream.read_buf(read).await.map_err(unavailable)? == 0 {
            return Err(unavailable("the server has ended the connection"));
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timeout(WRITING, writing).await.map_err(|_| unavailable("the server takes nothing"))?.map_err(unavailable)
}

pub(super) fn parse_info(info: &[u8]) -> Result<Info> {
    serde_json::from_slice(info).map_err(unavailable)
}

/// The text between the two lines of a credentials file that name it.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("BEGIN {name}"))?;
    rest.lines().nth(1).map(str::trim).filter(|line| !line.is_empty())
}

/// The address without what only its owner should know.
fn host(server: &str) -> &str {
    server.rsplit_once('@').map_or(server, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0.a.b\n------END NATS USER JWT------\n\nkeep it\n\n\
            -----BEGIN USER NKEY SEED-----\nSUAX\n------END USER NKEY SEED------\n";
        assert_eq!(section(text, "NATS USER JWT"), Some("eyJ0.a.b"));
        assert_eq!(section(text, "USER NKEY SEED"), Some("SUAX"));
        assert_eq!(section("", "USER NKEY SEED"), None);
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(host("nats://user:secret@server:4222"), "server:4222");
        assert_eq!(host("nats://server:4222"), "nats://server:4222");
    }
}
