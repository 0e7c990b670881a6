//! Servers of a test's own, which it may kill. The programs are those of the server that tests share.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{ConnectOptions, Connection, PgConnection};

/// Who runs a server when the test is run by root, for whom it will not start.
const NOBODY: u32 = 65_534;

/// A running server, killed when dropped.
pub(super) struct Server {
    data: PathBuf,
    programs: PathBuf,
    port: u16,
    child: Child,
}

const PROGRAMS: &str = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";

async fn programs() -> PathBuf {
    let url = format!("{}/postgres", servers::endpoints().postgres).into();
    let mut connection = super::parse(&url).unwrap().connect().await.unwrap();
    let folder: String = sqlx::query_scalar(PROGRAMS).fetch_one(&mut connection).await.unwrap();
    folder.into()
}

/// A command as whoever may run servers.
fn command(program: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()]).arg(program);
    command
}

fn run(program: &Path, arguments: &[&OsStr]) {
    let output = command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A new folder that belongs to whoever runs servers.
fn make_data(folder: &Path, name: &str) -> PathBuf {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.join(name);
    std::fs::create_dir(&data).unwrap();
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    data
}

impl Server {
    /// A new primary below `folder`.
    pub(super) async fn start(folder: &Path) -> Self {
        let (programs, data) = (programs().await, make_data(folder, "primary"));
        let options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--pgdata"];
        let mut arguments: Vec<_> = options.iter().map(OsStr::new).collect();
        arguments.push(data.as_os_str());
        run(&programs.join("initdb"), &arguments);
        Self::start_on(programs, data).await
    }

    /// A new replica of this server below `folder`.
    pub(super) async fn replica(&self, folder: &Path) -> Self {
        let data = make_data(folder, "replica");
        let source = format!("--dbname={}", self.url());
        let options = [source.as_str(), "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"];
        let mut arguments: Vec<_> = options.iter().map(OsStr::new).collect();
        arguments.push(data.as_os_str());
        run(&self.programs.join("pg_basebackup"), &arguments);
        Self::start_on(self.programs.clone(), data).await
    }

    async fn start_on(programs: PathBuf, data: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(&programs, &data, port);
        let server = Self { data, programs, port, child };
        server.until_ready().await;
        server
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub(super) async fn restart(&mut self) {
        let url = format!("{}/postgres", self.url()).into();
        super::eventually(async || {
            // Its processes outlive the first one by a moment, and the next one ends while they use the folder.
            if self.child.try_wait().unwrap().is_some() {
                self.child = spawn(&self.programs, &self.data, self.port);
            }
            is_ready(&url).await
        })
        .await;
    }

    async fn until_ready(&self) {
        let url = format!("{}/postgres", self.url()).into();
        super::eventually(async || is_ready(&url).await).await;
    }
}

async fn is_ready(url: &types::Secret) -> bool {
    let connected: sqlx::Result<PgConnection> = super::parse(url).unwrap().connect().await;
    match connected {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

fn spawn(programs: &Path, data: &Path, port: u16) -> Child {
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "wal_keep_size=64MB"];
    let mut command = command(&programs.join("postgres"));
    command.arg("-D").arg(data).arg("-p").arg(port.to_string());
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
