//! A minimal HTTP client: requests one after the other over one connection, answered in JSON.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What a body of JSON is called.
const JSON: &str = "application/json";

/// One connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// The status of a `GET`.
    pub(crate) fn status_of(&mut self, path: &str) -> Result<u16> {
        Ok(self.call("GET", path, "", (JSON, b""))?.0)
    }

    /// Posts JSON and reads JSON; a status other than 2xx is an error.
    pub(crate) fn post(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<Value> {
        taken(path, self.try_post(path, token, body)?)
    }

    /// Posts a file and reads JSON; a status other than 2xx is an error.
    pub(crate) fn post_file(&mut self, path: &str, token: &str, content_type: &str, file: &[u8]) -> Result<Value> {
        let (status, answer) = self.call("POST", path, &authorization(Some(token)), (content_type, file))?;
        taken(path, (status, serde_json::from_slice(&answer).context("the answer is not JSON")?))
    }

    /// Posts JSON and reads JSON, whatever the status.
    pub(crate) fn try_post(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<(u16, Value)> {
        let body = body.to_string();
        let (status, answer) = self.call("POST", path, &authorization(token), (JSON, body.as_bytes()))?;
        Ok((status, serde_json::from_slice(&answer).context("the answer is not JSON")?))
    }

    fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        (content_type, body): (&str, &[u8]),
    ) -> Result<(u16, Vec<u8>)> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;

        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let mut length = 0;
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        if length > MAX_BODY_BYTES {
            bail!("an answer of {length} bytes");
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// The header that tells who asks.
fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// The answer, when it is a good one.
fn taken(path: &str, (status, answer): (u16, Value)) -> Result<Value> {
    if !(200..300).contains(&status) {
        bail!("POST {path}: {status} {answer}");
    }
    Ok(answer)
}
