//! Users and groups of Rookery, made as any client would.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::Http;
use crate::load::Room;

/// Connections over which users are registered at once.
const REGISTERING: usize = 8;
/// Members that a group is made or filled with in one request.
const MEMBERS_AT_ONCE: usize = 100;

/// Limits so wide and passwords so cheap that neither is what is measured. Durability is as by default.
pub(super) const LIMITS: &str = "\
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
";

/// How many users there are.
#[derive(Default)]
pub(super) struct Users(usize);

/// A user that was registered.
struct Member {
    id: String,
    token: String,
}

impl Users {
    /// Registers users and makes groups of them.
    pub(super) fn rooms(&mut self, address: SocketAddr, count: usize, size: usize) -> Result<Vec<Room>> {
        let numbers: Vec<usize> = (self.0..self.0 + count * size).collect();
        self.0 += numbers.len();
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
