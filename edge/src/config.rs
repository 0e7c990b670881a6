//! What an operator may set about the edge. The defaults make a system for one machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::Region;

/// The edge's part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens for HTTP and WebSocket connections.
    pub listen: SocketAddr,
    /// Which region this is, and what the regions are called.
    pub region: RegionConfig,
    /// Passwords, tokens and sessions.
    pub auth: AuthConfig,
    /// What one client may ask for.
    pub limits: LimitsConfig,
    /// What users see of each other.
    pub users: UsersConfig,
    /// Files that users upload.
    pub attachments: AttachmentsConfig,
    /// Who reads the analytics.
    pub analytics: AnalyticsConfig,
    /// Which web pages of other origins may call the API.
    pub cors: CorsConfig,
    /// How long a shutdown may take, in seconds: then what is still open is cut.
    pub shutdown_seconds: u64,
}

/// Which region this is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegionConfig {
    /// The number of this region, 0 to 4095. It stands in every id that is born here.
    pub number: Region,
    /// The regions by name, as analytics' `region=` takes them.
    pub names: BTreeMap<String, Region>,
}

/// Passwords, tokens and sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The `iss` of the access tokens. Tokens of another issuer are not taken.
    pub issuer: String,
    /// How long an access token is good, in minutes.
    pub access_token_minutes: u32,
    /// How long a refresh token is good, in days. Each exchange gives a new one.
    pub refresh_token_days: u32,
    /// The Ed25519 key that signs the access tokens, PKCS#8 in PEM. Relative to the data folder; made when
    /// missing. All edges of a system need the same one.
    pub signing_key: PathBuf,
    /// How passwords are hashed.
    pub password: PasswordConfig,
}

/// How passwords are hashed: argon2id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordConfig {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// How many hashes may be computed at once. Each takes a core and its memory.
    pub hashes_at_once: usize,
    /// How many more may wait. Beyond that a log-in is told to try again.
    pub hashes_waiting: usize,
}

/// What one client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// The largest body of a request, in bytes.
    pub body_bytes: usize,
    /// The largest message on a WebSocket, in bytes.
    pub frame_bytes: usize,
    /// How long a body may take to arrive, in seconds; of a form with a file, what stands before it.
    pub body_seconds: u64,
    /// How long the head of a request may take to arrive, in seconds.
    pub head_seconds: u64,
    /// Open connections in all.
    pub connections: usize,
    /// The longest text of a message, in characters.
    pub text_characters: usize,
    /// The longest name of a user or a group, in characters.
    pub name_characters: usize,
    /// Requests and frames of one user, per second, in the long run.
    pub requests_per_second_per_user: u32,
    /// Requests and frames of one user at once.
    pub request_burst_per_user: u32,
    /// Requests from one address, per second, in the long run. An IPv6 address stands for its /64.
    pub requests_per_second_per_address: u32,
    /// Requests from one address at once.
    pub request_burst_per_address: u32,
    /// Registrations, log-ins and changes of a password from one address, per minute; and, counted apart, refreshes that
    /// fail.
    pub sign_ins_per_minute_per_address: u32,
    /// Wrong passwords for one user name or email address, per minute, from all addresses together; but for those that
    /// its user signed in from, each of which is counted by itself.
    pub wrong_passwords_per_minute_per_account: u32,
    /// Refreshes of one session, per minute.
    pub refreshes_per_minute_per_session: u32,
    /// How many proxies stand before the edge, each of which appends to `X-Forwarded-For`: the client's address
    /// is that many entries from its end. 0 takes the address of the connection.
    pub trusted_proxies: usize,
    /// WebSockets of one user.
    pub connections_per_user: usize,
    /// What may wait to be written to one WebSocket, in bytes. Beyond that it is closed with 4408.
    pub outbox_bytes: usize,
    /// Frames of one WebSocket that may wait for the log at once.
    pub sends_in_flight: usize,
    /// A WebSocket that has been silent for so long, in seconds, is sent a ping; after twice the time it is closed.
    pub heartbeat_seconds: u64,
}

/// What users see of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsersConfig {
    /// Whether every signed-in user sees everybody's email address, or only its own.
    pub show_email: bool,
}

/// Files that users upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachmentsConfig {
    /// The largest file, in bytes. S3 takes 5 GiB by one link.
    pub max_bytes: u64,
    /// The media types that are taken, by content. PDF, JPEG and PNG are followed to their very end; others are told
    /// by their beginning alone.
    pub content_types: Vec<String>,
    /// How long an upload may take, in seconds. Shorter than ingest's `orphan_seconds`.
    pub upload_seconds: u32,
    /// How long a link to upload by works, in seconds.
    pub upload_link_seconds: u32,
    /// How long a link to download by works, in seconds: so long may a removed member, or whoever was handed the
    /// link, go on using it.
    pub link_seconds: u32,
    /// Uploads that one edge takes at once. With S3 each holds up to 24 MB.
    pub uploads_at_once: usize,
    /// Uploads that one edge takes at once of one user.
    pub uploads_at_once_per_user: usize,
}

/// Who reads the analytics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnalyticsConfig {
    /// Who reads them.
    pub readers: Readers,
}

/// Who reads the analytics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readers {
    /// Every signed-in user.
    #[default]
    Everyone,
    /// Users with the role `analyst`.
    Analysts,
}

/// Which web pages of other origins may call the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Their origins, such as `https://chat.example.org`. None by default.
    pub allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            region: RegionConfig::default(),
            auth: AuthConfig::default(),
            limits: LimitsConfig::default(),
            users: UsersConfig::default(),
            attachments: AttachmentsConfig::default(),
            analytics: AnalyticsConfig::default(),
            cors: CorsConfig::default(),
            shutdown_seconds: 10,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: "rookery".into(),
            access_token_minutes: 15,
            refresh_token_days: 30,
            signing_key: "signing-key.pem".into(),
            password: PasswordConfig::default(),
        }
    }
}

impl Default for PasswordConfig {
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2, parallelism: 1, hashes_at_once: 2, hashes_waiting: 64 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            frame_bytes: 64 * 1024,
            body_seconds: 30,
            head_seconds: 30,
            connections: 100_000,
            text_characters: 8_000,
            name_characters: 100,
            requests_per_second_per_user: 50,
            request_burst_per_user: 200,
            requests_per_second_per_address: 100,
            request_burst_per_address: 500,
            sign_ins_per_minute_per_address: 30,
            wrong_passwords_per_minute_per_account: 10,
            refreshes_per_minute_per_session: 30,
            trusted_proxies: 0,
            connections_per_user: 20,
            outbox_bytes: 1024 * 1024,
            sends_in_flight: 64,
            heartbeat_seconds: 30,
        }
    }
}

impl Default for AttachmentsConfig {
    fn default() -> Self {
        Self {
            max_bytes: 25 * 1024 * 1024,
            content_types: ["application/pdf", "image/jpeg", "image/png"].map(str::to_owned).to_vec(),
            upload_seconds: 30 * 60,
            upload_link_seconds: 15 * 60,
            link_seconds: 60,
            uploads_at_once: 32,
            uploads_at_once_per_user: 4,
        }
    }
}

impl Default for UsersConfig {
    fn default() -> Self {
        Self { show_email: true }
    }
}
