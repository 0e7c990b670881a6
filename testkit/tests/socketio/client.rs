//! Official Socket.IO clients, driven through `driver.mjs`.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::PATIENCE;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A Node process with any number of clients.
pub(crate) struct Node {
    child: Child,
    input: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    numbers: AtomicU64,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let folder = tokio::task::spawn_blocking(install).await.unwrap();
        let mut command = Command::new("node");
        command.arg("driver.mjs").current_dir(folder).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting = Waiting::default();
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: Value = serde_json::from_str(&line).expect("the driver speaks JSON");
                let asked = answered.lock().unwrap().remove(&answer["number"].as_u64().unwrap());
                drop(asked.map(|asked| asked.send(answer)));
            }
        });
        Self { child, input: tokio::sync::Mutex::new(input), waiting, numbers: AtomicU64::new(0) }
    }

    /// Has a command carried out and gives its answer.
    async fn ask(&self, name: &str, mut command: Value) -> Value {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        command["name"] = name.into();
        command["number"] = number.into();
        let (asked, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, asked);
        self.input.lock().await.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(2 * PATIENCE, answer).await.expect("the driver answers").unwrap();
        assert_eq!(answer["failure"], Value::Null, "{command}");
        answer["answer"].clone()
    }

    /// Connects a client by this transport and waits until it is greeted.
    pub(crate) async fn connect(&self, name: &str, of: &testkit::Client, transports: &[&str]) -> Socket<'_> {
        self.resume(name, of, transports, json!({})).await
    }

    /// Connects a client that was here before; `from` holds its positions.
    pub(crate) async fn resume(
        &self,
        name: &str,
        of: &testkit::Client,
        transports: &[&str],
        mut from: Value,
    ) -> Socket<'_> {
        from["token"] = of.token().into();
        let socket = Socket { node: self, name: name.to_owned() };
        assert_eq!(self.try_connect(name, of, transports, from).await, json!({"connected": true}));
        socket
    }

    /// Connects a client with whatever `auth`, or tells why not.
    pub(crate) async fn try_connect(
        &self,
        name: &str,
        at: &testkit::Client,
        transports: &[&str],
        auth: Value,
    ) -> Value {
        let url = format!("http://{}", at.address());
        self.ask("connect", json!({"client": name, "url": url, "auth": auth, "transports": transports})).await
    }

    /// Ends the process, which must have come to no harm.
    pub(crate) async fn end(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("node ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

/// A connected client.
pub(crate) struct Socket<'a> {
    node: &'a Node,
    name: String,
}

impl Socket<'_> {
    /// Emits an event and gives its acknowledgement.
    pub(crate) async fn emit(&self, event: &str, data: Value) -> Value {
        self.node.ask("emit", json!({"client": self.name, "event": event, "data": data})).await
    }

    /// Emits an event that must succeed.
    pub(crate) async fn done(&self, event: &str, data: Value) -> Value {
        let ack = self.emit(event, data).await;
        assert_eq!(ack["ok"], true, "{ack}");
        ack
    }

    /// The data of the next event of this name; others before it are passed over.
    pub(crate) async fn next(&self, event: &str) -> Value {
        let next = self.node.ask("next", json!({"client": self.name, "events": [event]})).await;
        next["data"].clone()
    }

    /// The names of everything that came until now and was not asked for.
    pub(crate) async fn names_so_far(&self) -> Vec<String> {
        // An answer comes behind everything that the server had to say before.
        self.done("position", json!({})).await;
        let received = self.node.ask("received", json!({"client": self.name})).await;
        let names = received.as_array().unwrap().iter();
        names.map(|received| received["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Why the server, or the client itself, has ended the connection.
    pub(crate) async fn ending(&self) -> String {
        self.node.ask("ending", json!({"client": self.name})).await.as_str().unwrap().to_owned()
    }

    /// Stops to read, or goes on.
    pub(crate) async fn stall(&self, on: bool) {
        self.node.ask("stall", json!({"client": self.name, "on": on})).await;
    }

    /// Where the events of this name are, in the order in which they came until the connection ended; and what was said
    /// about the end.
    pub(crate) async fn places_until_the_end(&self, event: &str) -> Vec<Value> {
        let places = self.node.ask("places", json!({"client": self.name, "event": event})).await;
        places.as_array().unwrap().clone()
    }

    /// Waits until the client talks by this transport.
    pub(crate) async fn talks_by(&self, transport: &str) {
        self.node.ask("transport", json!({"client": self.name, "wanted": transport})).await;
    }

    /// Breaks the connection and lets the client come back by itself.
    pub(crate) async fn break_off(&self, auth: Value) {
        self.node.ask("breakOff", json!({"client": self.name, "auth": auth})).await;
    }

    /// Leaves for good.
    pub(crate) async fn leave(self) {
        self.node.ask("leave", json!({"client": self.name})).await;
    }
}

/// Installs what `package-lock.json` pins beside the build, once.
fn install() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/socketio");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("socketio");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    for file in ["package.json", "package-lock.json", "driver.mjs"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let wanted = std::fs::read(source.join("package-lock.json")).unwrap();
    let installed = folder.join("node_modules/installed");
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    let mut npm = std::process::Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).stdout(Stdio::null());
    assert!(npm.status().expect("npm is there").success(), "npm ci failed");
    std::fs::write(installed, wanted).unwrap();
    folder
}
