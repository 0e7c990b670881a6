//! Apache Cassandra, which speaks CQL: its classes from Maven Central, run by Java 17.

use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::home::{Home, User};
use crate::http;
use crate::ports;
use crate::server::{Plan, Server};
use crate::shell::{self, Needed};

const VERSION: &str = "5.0.6";
/// Names the version, for Maven.
const POM: &str = include_str!("cassandra/pom.xml");
const LOGBACK: &str = include_str!("cassandra/logback.xml");
const JAVA_OPTIONS: &str = include_str!("cassandra/java_options.txt");
/// What Cassandra 5 recommends.
const TRIES: &str =
    "memtable: {configurations: {default: {class_name: TrieMemtable}}}\nmemtable_allocation_type: offheap_objects";
/// What fetches its classes.
pub(crate) const MAVEN: Needed = Needed { package: "maven", is_there: || shell::find("mvn").is_some() };
/// What runs it. Debian 12 has this version.
pub(crate) const JAVA: Needed = Needed { package: "openjdk-17-jre-headless", is_there: || known_java().is_some() };
/// Where Debian puts the Java that Cassandra runs on.
const DEBIAN_JAVA: [&str; 2] =
    ["/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "/usr/lib/jvm/java-17-openjdk-arm64/bin/java"];

/// How a Cassandra server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CassandraOptions {
    /// Its heap, in megabytes.
    pub heap_megabytes: u32,
    /// A write is on the disk before it is answered, with those of the same so many milliseconds.
    pub commit_window_ms: u16,
    /// Whether hot code is compiled as well as Java can, and memtables are tries off the heap: for measurements. Without it a
    /// start costs a third less.
    pub as_in_production: bool,
}

impl Default for CassandraOptions {
    fn default() -> Self {
        Self { heap_megabytes: 512, commit_window_ms: 2, as_in_production: false }
    }
}

/// A Cassandra server that is a cluster by itself.
pub struct Cassandra {
    server: Server,
}

impl Cassandra {
    /// Starts it on its folder, which is made when missing.
    pub fn start(home: &Home, folder: &Path, options: CassandraOptions) -> Result<Self> {
        let mut cassandra = Self::find(home, folder, options)?;
        cassandra.bring_up()?;
        Ok(cassandra)
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path, options: CassandraOptions) -> Result<Self> {
        Ok(Self { server: Server::find(plan(home, folder, options)?) })
    }
}

impl Deref for Cassandra {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Cassandra {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn plan(home: &Home, folder: &Path, options: CassandraOptions) -> Result<Plan> {
    let java = java()?;
    let jars = jars(home)?;
    std::fs::create_dir_all(folder)?;
    let [port, storage] = ports::of(folder)?;
    let (config, logback, java_options) =
        (folder.join("cassandra.yaml"), folder.join("logback.xml"), folder.join("java_options.txt"));
    std::fs::write(&config, settings(&folder.join("data"), [port, storage], options))?;
    std::fs::write(&logback, LOGBACK)?;
    let (heap, data) = (options.heap_megabytes, folder.join("data"));
    let compiler = if options.as_in_production { "" } else { "-XX:TieredStopAtLevel=1\n" };
    std::fs::write(
        &java_options,
        format!(
            "{JAVA_OPTIONS}{compiler}-Xms{heap}m\n-Xmx{heap}m\n-Dcassandra.config=file://{}\n-Dlogback.configurationFile=file://{}\n\
             -Dcassandra.storagedir={}\n-cp {}/*\n",
            config.display(),
            logback.display(),
            data.display(),
            jars.display(),
        ),
    )?;
    let home = home.clone();
    let outlives_us = home.outlive_us();
    Ok(Plan {
        name: "cassandra",
        version: VERSION,
        address: format!("127.0.0.1:{port}"),
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&java, User::Ours);
            command.arg(format!("@{}", java_options.display()));
            command.arg("org.apache.cassandra.service.CassandraDaemon");
            command
        }),
        ask: Box::new(move || ask(port)),
        stop_signal: Signal::TERM,
        patience: Duration::from_secs(120),
        outlives_us,
    })
}

fn settings(data: &Path, [port, storage]: [u16; 2], options: CassandraOptions) -> String {
    let (data, commit_window_ms) = (data.display(), options.commit_window_ms);
    let memtable = if options.as_in_production { TRIES } else { "memtable_allocation_type: heap_buffers" };
    format!(
        "cluster_name: rookery
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider: [{{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{{seeds: '127.0.0.1:{storage}'}}]}}]
auto_bootstrap: false
listen_address: 127.0.0.1
storage_port: {storage}
rpc_address: 127.0.0.1
native_transport_port: {port}
data_file_directories: ['{data}/data']
commitlog_directory: '{data}/commitlog'
saved_caches_directory: '{data}/saved_caches'
hints_directory: '{data}/hints'
cdc_raw_directory: '{data}/cdc_raw'
commitlog_sync: group
commitlog_sync_group_window: {commit_window_ms}ms
concurrent_reads: 16
concurrent_writes: 64
{memtable}
"
    )
}

/// Asks for its options, as every CQL client does first: a frame of protocol 4 with that question and no body.
fn ask(port: u16) -> Result<()> {
    const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
    const SUPPORTED: u8 = 6;
    let mut stream = http::connect(port)?;
    stream.write_all(&OPTIONS)?;
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    ensure!(header[4] == SUPPORTED, "not the answer to a client's first question: {header:?}");
    Ok(())
}

/// The folder of Cassandra's classes and of all that they need.
fn jars(home: &Home) -> Result<PathBuf> {
    home.fetched(&format!("cassandra-{VERSION}"), |folder| {
        shell::provide(&[MAVEN])?;
        std::fs::create_dir_all(folder)?;
        let pom = folder.join("pom.xml");
        std::fs::write(&pom, POM)?;
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom).arg("dependency:copy-dependencies");
        shell::output(maven.arg(format!("-DoutputDirectory={}", folder.display()))).map(drop)
    })
}

/// Java 17, which is installed when there is none.
fn java() -> Result<PathBuf> {
    if let Some(java) = known_java() {
        return Ok(java);
    }
    shell::install(&[JAVA.package])?;
    known_java().context("Java 17 is still missing after its package was installed")
}

/// Java 17: the one that is called `java`, or Debian's.
fn known_java() -> Option<PathBuf> {
    let is_17 = |java: &PathBuf| {
        let version = Command::new(java).arg("-version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("version \"17."))
    };
    shell::find("java").into_iter().chain(DEBIAN_JAVA.map(PathBuf::from)).find(is_17)
}
