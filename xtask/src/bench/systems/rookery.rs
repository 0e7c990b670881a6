//! Rookery, with its roles over embedded stores in one process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::free_address;
use crate::bench::http::Http;
use crate::bench::process::{self, SERVER_CORE};
use crate::load::Room;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_micros(500);
/// Connections over which users are registered at once.
const REGISTERING: usize = 8;
/// Members that a group is made or filled with in one request.
const MEMBERS_AT_ONCE: usize = 100;

/// The running server.
pub(crate) struct Rookery {
    program: PathBuf,
    data: PathBuf,
    pub(crate) address: SocketAddr,
    process: Option<Child>,
    users: usize,
}

/// A user that was registered.
struct Member {
    id: String,
    token: String,
}

impl Rookery {
    /// Starts the server on the data folder, which is made when missing. Answers how long it took to be ready.
    pub(crate) fn start(root: &Path, data: &Path) -> Result<(Self, Duration)> {
        std::fs::create_dir_all(data)?;
        let program = root.join("target/release/rookery");
        let mut rookery = Self { program, data: data.to_path_buf(), address: free_address()?, process: None, users: 0 };
        let took = rookery.start_timed()?;
        Ok((rookery, took))
    }

    /// Starts the server, ending the one that runs. Answers how long it took until it was ready.
    pub(crate) fn start_timed(&mut self) -> Result<Duration> {
        self.stop();
        self.address = free_address()?;
        let config = self.data.with_extension("toml");
        std::fs::write(&config, config_for(self.address))?;
        let output = File::create(self.data.with_extension("log"))?;
        let mut command = process::on_core(SERVER_CORE, &self.program);
        command.arg("--data").arg(&self.data).arg("--config").arg(&config);
        command.stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        self.process = Some(command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?);
        while !self.is_ready() {
            let has_ended =
                self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|end| end.is_some()));
            if has_ended || started.elapsed() > PATIENCE {
                let output = std::fs::read_to_string(self.data.with_extension("log"))?;
                bail!("the server does not get ready:\n{output}");
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(started.elapsed())
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.start_timed().map(drop)
    }

    fn is_ready(&self) -> bool {
        Http::connect(self.address).and_then(|mut http| http.status_of("/readyz")).is_ok_and(|status| status == 200)
    }

    /// Ends it as an operator would; by force when that takes too long.
    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        drop(Command::new("kill").arg(process.id().to_string()).status());
        let started = Instant::now();
        while started.elapsed() < PATIENCE && process.try_wait().is_ok_and(|end| end.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(process.kill());
        drop(process.wait());
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Registers users and makes groups of them, as any client would.
    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Result<Vec<Room>> {
        let numbers: Vec<usize> = (self.users..self.users + count * size).collect();
        self.users += numbers.len();
        let address = self.address;
        let share = numbers.len().div_ceil(REGISTERING).max(1);
        let members: Vec<Member> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                numbers.chunks(share).map(|numbers| scope.spawn(move || register(address, numbers))).collect();
            let shares =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("registering failed")));
            shares.collect::<Result<Vec<_>>>().map(|shares| shares.into_iter().flatten().collect())
        })?;
        let mut http = Http::connect(address)?;
        members.chunks(size).enumerate().map(|(number, members)| group(&mut http, number, members)).collect()
    }
}

impl Drop for Rookery {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Limits so wide and passwords so cheap that neither is what is measured. Durability is as by default.
fn config_for(address: SocketAddr) -> String {
    format!(
        r#"[edge]
listen = "{address}"
[edge.auth]
access_token_minutes = 1440
[edge.auth.password]
memory_kib = 8
iterations = 1
hashes_waiting = 1024
[edge.limits]
requests_per_second_per_user = 1000000
request_burst_per_user = 1000000
requests_per_second_per_address = 1000000
request_burst_per_address = 1000000
sign_ins_per_minute_per_address = 1000000
heartbeat_seconds = 3600
"#
    )
}

fn register(address: SocketAddr, numbers: &[usize]) -> Result<Vec<Member>> {
    let mut http = Http::connect(address)?;
    let mut register = |number: &usize| {
        let username = format!("bench-{number}");
        let email = format!("{username}@example.org");
        let body = json!({ "username": username, "email": email, "password": "correct horse battery staple" });
        let session = http.post("/v1/auth/register", None, &body)?;
        Ok(Member { id: string(&session["user"]["id"])?, token: string(&session["access_token"])? })
    };
    numbers.iter().map(&mut register).collect()
}

/// Makes a group of these members: the first is its owner.
fn group(http: &mut Http, number: usize, members: &[Member]) -> Result<Room> {
    let (owner, others) = members.split_first().context("an empty room")?;
    let ids: Vec<&str> = others.iter().map(|member| member.id.as_str()).collect();
    let mut shares = ids.chunks(MEMBERS_AT_ONCE);
    let body =
        json!({ "kind": "group", "name": format!("bench {number}"), "members": shares.next().unwrap_or_default() });
    let conversation = http.post("/v1/conversations", Some(&owner.token), &body)?;
    let id = string(&conversation["id"])?;
    for share in shares {
        http.post(&format!("/v1/conversations/{id}/members"), Some(&owner.token), &json!({ "users": share }))?;
    }
    Ok(Room { id, members: members.iter().map(|member| member.token.clone()).collect() })
}

fn string(value: &Value) -> Result<String> {
    value.as_str().map(ToOwned::to_owned).with_context(|| format!("no string: {value}"))
}
