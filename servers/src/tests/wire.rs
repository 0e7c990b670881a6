//! As much of two wire protocols as it takes to keep something and to ask for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client of NATS that asks and reads one answer.
pub(super) struct JetStream {
    stream: BufReader<TcpStream>,
}

impl JetStream {
    pub(super) fn connect(url: &str) -> Self {
        let mut stream = connect(url.strip_prefix("nats://").unwrap());
        stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB answer 1\r\n").unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// The answer to a request, which must not be an error.
    pub(super) fn call(&mut self, subject: &str, payload: &str) -> Value {
        let answer = self.ask(subject, payload, PATIENCE).unwrap();
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }

    /// The answer to a request, if it comes in time.
    pub(super) fn ask(&mut self, subject: &str, payload: &str, patience: Duration) -> Result<Value> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        let length = payload.len();
        write!(self.stream.get_mut(), "PUB {subject} answer {length}\r\n{payload}\r\n")?;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            ensure!(!line.is_empty() && !line.starts_with("-ERR"), "{line}");
            if line.starts_with("PING") {
                self.stream.get_mut().write_all(b"PONG\r\n")?;
            }
            if !line.starts_with("MSG ") {
                continue;
            }
            let length: usize = line.trim().rsplit(' ').next().context("no length")?.parse()?;
            let mut answer = vec![0; length + "\r\n".len()];
            self.stream.read_exact(&mut answer)?;
            return Ok(serde_json::from_slice(&answer)?);
        }
    }
}

/// A client of CQL, protocol 4.
pub(super) struct Cql {
    stream: TcpStream,
}

impl Cql {
    const ERROR: u8 = 0;
    const STARTUP: u8 = 1;
    const QUERY: u8 = 7;
    const CONSISTENCY_ONE: u16 = 1;

    pub(super) fn connect(address: &str) -> Self {
        let mut client = Self { stream: connect(address) };
        let mut options = 1_u16.to_be_bytes().to_vec();
        for text in ["CQL_VERSION", "3.0.0"] {
            options.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            options.extend(text.as_bytes());
        }
        client.call(Self::STARTUP, &options);
        client
    }

    /// The body of the answer, which must not be an error.
    pub(super) fn query(&mut self, cql: &str) -> Vec<u8> {
        let mut body = u32::try_from(cql.len()).unwrap().to_be_bytes().to_vec();
        body.extend(cql.as_bytes());
        body.extend(Self::CONSISTENCY_ONE.to_be_bytes());
        body.push(0);
        self.call(Self::QUERY, &body)
    }

    fn call(&mut self, operation: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![4, 0, 0, 0, operation];
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(body);
        self.stream.write_all(&frame).unwrap();
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).unwrap();
        let mut answer = vec![0; u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        assert_ne!(header[4], Self::ERROR, "{}", String::from_utf8_lossy(&answer));
        answer
    }
}
