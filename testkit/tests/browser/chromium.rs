//! A headless Chromium of our own, driven over WebDriver, and its windows.

use std::io::{BufRead, BufReader};
use std::mem::ManuallyDrop;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::PATIENCE;
use thirtyfour::error::WebDriverErrorInner;
use thirtyfour::prelude::{By, WebDriver, WebElement};
use thirtyfour::{
    BrowserCapabilitiesHelper, CapabilitiesHelper, ChromiumLikeCapabilities, DesiredCapabilities, WindowHandle,
};

/// What a machine without a browser must install. A missing browser is a failure, never a skipped test.
const MISSING: &str = "the browser test needs Chromium and its driver: apt-get install chromium chromium-driver";
/// How often an element may be drawn anew between being found and being clicked.
const STALE_AT_MOST: usize = 5;
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Begins a script that asks which elements are on screen and hold a text.
const VISIBLE: &str = "const holds = (node) => node.checkVisibility({ visibilityProperty: true }) && \
     (node.matches('input, textarea') ? node.value : node.innerText).includes(arguments[1]); \
     const nodes = [...document.querySelectorAll(arguments[0])];";

const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// Ends chromedriver and every process of its browser by their ids, also when a test has panicked.
struct Processes {
    chromedriver: Child,
    profile: TempDir,
}

impl Processes {
    fn start() -> (Self, u16) {
        let chromium = Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(chromium.is_ok_and(|status| status.success()), "{MISSING}");
        let mut chromedriver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{MISSING} ({error})"));
        let stdout = chromedriver.stdout.take().unwrap();
        let processes = Self { chromedriver, profile: tempfile::tempdir().unwrap() };
        // A thread reads, because a pipe on which nothing comes cannot be waited for with a bound.
        let (told, port) = mpsc::channel();
        std::thread::spawn(move || told.send(announced_port(stdout)));
        let port = port.recv_timeout(PATIENCE).ok().flatten().expect("chromedriver says on which port it listens");
        (processes, port)
    }

    /// The browser's processes: those that were started with our profile.
    fn browsers(&self) -> Vec<String> {
        let profile = self.profile.path().to_string_lossy().into_owned();
        let is_ours = |id: &String| {
            std::fs::read(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&profile))
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(is_ours)
            .collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.chromedriver.kill().ok();
        self.chromedriver.wait().ok();
        // Only what is gone no longer writes into the profile, which goes next.
        for _ in 0..100 {
            let browsers = self.browsers();
            if browsers.is_empty() {
                break;
            }
            Command::new("kill").arg("-KILL").args(browsers).stderr(Stdio::null()).status().ok();
            std::thread::sleep(POLL_EVERY);
        }
    }
}

fn announced_port(stdout: ChildStdout) -> Option<u16> {
    BufReader::new(stdout).lines().map_while(Result::ok).find_map(|line| {
        line.strip_prefix("ChromeDriver was started successfully on port ")?.strip_suffix('.')?.parse().ok()
    })
}

/// A browser without history. Its windows share nothing that the page keeps per tab.
pub(crate) struct Browser {
    // Never dropped: after a panic it would wait two minutes for the answer to its goodbye.
    driver: ManuallyDrop<WebDriver>,
    _processes: Processes,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let (processes, port) = Processes::start();
        let mut wishes = DesiredCapabilities::chrome();
        for argument in ARGUMENTS {
            wishes.add_arg(argument).unwrap();
        }
        wishes.add_arg(&format!("--user-data-dir={}", processes.profile.path().display())).unwrap();
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        wishes.set_browser_option("perfLoggingPrefs", json!({ "enableNetwork": true, "enablePage": false })).unwrap();
        wishes.set("goog:loggingPrefs", logs).unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wishes).await.unwrap();
        Self { driver: ManuallyDrop::new(driver), _processes: processes }
    }

    /// A new window of this size, in pixels, that shows `url`.
    pub(crate) async fn open(&self, url: &str, size: (u32, u32)) -> Window<'_> {
        let handle = self.driver.new_window().await.unwrap();
        let window = Window { driver: &self.driver, handle };
        window.resizes(size).await;
        self.driver.goto(url).await.unwrap();
        window
    }

    /// What the pages complained of on the console.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.unwrap();
        let is_bad = |level: &str| level == "SEVERE" || level == "WARNING";
        entries.into_iter().filter(|entry| is_bad(&entry.level)).map(|entry| entry.message).collect()
    }

    /// What happened on the network since this was last asked.
    async fn network(&self) -> Vec<Value> {
        let entries = self.driver.get_log("performance").await.unwrap();
        let message = |entry: &thirtyfour::BrowserLogEntry| {
            let mut record: Value = serde_json::from_str(&entry.message).unwrap();
            record["message"].take()
        };
        entries.iter().map(message).collect()
    }

    /// The WebSockets' frames that pages received since the network was last asked.
    pub(crate) async fn received(&self) -> Vec<Value> {
        let frames = self.network().await.into_iter().filter(|one| one["method"] == "Network.webSocketFrameReceived");
        let text = |frame: Value| serde_json::from_str(frame["params"]["response"]["payloadData"].as_str()?).ok();
        frames.filter_map(text).collect()
    }

    /// Every address that a page has asked the network for, over HTTP or as a WebSocket.
    pub(crate) async fn requested(&self) -> Vec<String> {
        let url = |message: &Value| {
            let url = match message["method"].as_str()? {
                "Network.requestWillBeSent" => &message["params"]["request"]["url"],
                "Network.webSocketCreated" => &message["params"]["url"],
                _ => return None,
            };
            // Chromium's own pages, and pictures that stand in the page itself, ask nobody.
            let is_local =
                |url: &&str| ["chrome:", "data:", "about:", "blob:"].iter().any(|scheme| url.starts_with(scheme));
            url.as_str().filter(|url| !is_local(url)).map(str::to_owned)
        };
        self.network().await.iter().filter_map(url).collect()
    }

    pub(crate) async fn quit(self) {
        ManuallyDrop::into_inner(self.driver).quit().await.unwrap();
    }
}

/// One window with one tab, and so one user.
pub(crate) struct Window<'a> {
    driver: &'a WebDriver,
    handle: WindowHandle,
}

impl Window<'_> {
    async fn focus(&self) {
        self.driver.switch_to_window(self.handle.clone()).await.unwrap();
    }

    /// Runs a function's body in the page.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.focus().await;
        self.driver.execute(script, arguments).await.unwrap().json().clone()
    }

    /// Waits until a function's body gives something true.
    async fn wait(&self, what: &str, script: &str, arguments: Vec<Value>) {
        let begun = Instant::now();
        while self.run(script, arguments.clone()).await != json!(true) {
            if begun.elapsed() > PATIENCE {
                let text = self.run("return document.body.innerText", vec![]).await;
                panic!("waited in vain for {what}; the page says:\n{}", text.as_str().unwrap_or_default());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Waits until a function's body gives something true.
    pub(crate) async fn until(&self, what: &str, script: &str) {
        self.wait(what, script, vec![]).await;
    }

    /// Waits until something that `selector` names is on screen and holds `text`.
    pub(crate) async fn sees(&self, selector: &str, text: &str) {
        let script = format!("{VISIBLE} return nodes.some(holds)");
        self.wait(&format!("`{text}` in {selector}"), &script, vec![json!(selector), json!(text)]).await;
    }

    /// Waits until nothing that `selector` names is on screen and holds `text`.
    pub(crate) async fn sees_no(&self, selector: &str, text: &str) {
        let script = format!("{VISIBLE} return !nodes.some(holds)");
        self.wait(&format!("no `{text}` in {selector}"), &script, vec![json!(selector), json!(text)]).await;
    }

    /// Waits for the first element that `selector` names, is on screen and holds `text`.
    async fn element(&self, selector: &str, text: &str) -> WebElement {
        self.sees(selector, text).await;
        let script = format!("{VISIBLE} return nodes.findIndex(holds)");
        let at = self.run(&script, vec![json!(selector), json!(text)]).await.as_u64().unwrap();
        let elements = self.driver.find_all(By::Css(selector)).await.unwrap();
        elements.into_iter().nth(usize::try_from(at).unwrap()).unwrap()
    }

    /// Clicks the first element that `selector` names, is on screen and holds `text`.
    pub(crate) async fn click(&self, selector: &str, text: &str) {
        for _ in 0..STALE_AT_MOST {
            match self.element(selector, text).await.click().await {
                Err(error) if matches!(*error, WebDriverErrorInner::StaleElementReference(_)) => {}
                clicked => return clicked.unwrap(),
            }
        }
        panic!("`{text}` in {selector} was drawn anew whenever it was to be clicked");
    }

    /// Types into a field, after what it holds.
    pub(crate) async fn types(&self, selector: &str, text: &str) {
        self.element(selector, "").await.send_keys(text).await.unwrap();
    }

    /// Moves the pointer over an element.
    pub(crate) async fn points_at(&self, selector: &str, text: &str) {
        let element = self.element(selector, text).await;
        self.driver.action_chain().move_to_element_center(&element).perform().await.unwrap();
    }

    /// Gives the page so much room, in pixels. A window cannot be made as narrow as a phone.
    pub(crate) async fn resizes(&self, (width, height): (u32, u32)) {
        self.focus().await;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.driver.cdp().send_raw("Emulation.setDeviceMetricsOverride", metrics).await.unwrap();
    }

    /// How wide the page may be drawn, and how wide it is drawn, in pixels.
    pub(crate) async fn widths(&self) -> (u64, u64) {
        let widths = self.run("return [innerWidth, document.documentElement.scrollWidth]", vec![]).await;
        (widths[0].as_u64().unwrap(), widths[1].as_u64().unwrap())
    }
}
