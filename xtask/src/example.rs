//! `cargo xtask example`: fills a running server, by its API, with users, a chatroom, invitations, messages and a
//! picture to look at. Run again, it signs the same users in and adds another chatroom.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::http::Http;

/// Where the server is.
#[derive(Args)]
pub(crate) struct Options {
    /// The server's address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: String,
}

/// The password of every user of the example.
const PASSWORD: &str = "rooks like company";
const USERS: [(&str, &str); 4] =
    [("ada", "Ada Rook"), ("ben", "Ben Jackdaw"), ("cleo", "Cleo Crow"), ("dov", "Dov Raven")];
/// What is said in the chatroom: who, by their place among the users, and what.
const TALK: [(usize, &str); 6] = [
    (0, "Good morning, parliament!"),
    (1, "Morning. Has anybody seen the walnuts?"),
    (2, "Depends on who is asking."),
    (1, "Cleo…"),
    (3, "I brought new ones. Under the third elm."),
    (0, "Motion to move the meeting to the third elm."),
];

/// A picture of the third elm, which is sent to the chatroom last.
const PICTURE: &[u8] = include_bytes!("example/elm.png");

/// What was made, to look at.
pub(crate) struct Made {
    /// The chatroom's id.
    pub(crate) chatroom: String,
    /// The users' tokens, in their order.
    pub(crate) tokens: Vec<String>,
}

/// Fills the server and says what to look at.
pub(crate) fn run(options: &Options) -> Result<()> {
    let address = options.server.to_socket_addrs().context("--server")?.next().context("no such server")?;
    let made = fill(address)?;
    let (server, room) = (&options.server, &made.chatroom);
    let token = made.tokens.first().map_or("", String::as_str);
    println!("Made four users, a chatroom with {} messages and a picture, and direct messages.", TALK.len());
    println!("Open http://{server} and sign in as ada, ben, cleo or dov; the password is \"{PASSWORD}\".");
    println!("Or look by curl, for a quarter of an hour as ada:");
    for path in [
        format!("chatrooms/{room}/messages"),
        "v1/messages/recent?limit=100".to_owned(),
        "v1/analytics/top-users".to_owned(),
    ] {
        println!("  curl -s 'http://{server}/{path}' -H 'Authorization: Bearer {token}'");
    }
    Ok(())
}

struct User {
    id: String,
    token: String,
}

/// Fills the server at this address.
pub(crate) fn fill(address: SocketAddr) -> Result<Made> {
    let mut http = Http::connect(address).with_context(|| format!("no server at {address}: start one first"))?;
    let users: Vec<User> = USERS.iter().map(|(name, full)| sign_in(&mut http, name, full)).collect::<Result<_>>()?;
    let [ada, ben, cleo, dov] = users.as_slice() else { bail!("four users") };
    let room = http.post("/chatrooms", Some(&ada.token), &json!({"name": "The parliament of rooks"}))?;
    let room = text(&room["data"]["id"])?;
    let invited = json!({"chatroom_id": room, "user_ids": [ben.id, cleo.id, dov.id]});
    http.post("/chatrooms/invite", Some(&ada.token), &invited)?;
    for (index, said) in TALK {
        let user = users.get(index).context("a user of the example")?;
        let message = json!({"data": [{"message_str": said, "sender_user_id": user.id}]});
        http.post(&format!("/chatrooms/{room}/messages"), Some(&user.token), &message)?;
    }
    http.post_file(&format!("/uploads?group={room}&name=elm.png"), &dov.token, "image/png", PICTURE)?;
    let direct = [
        (ben, ada, json!({"text": "Second the motion."})),
        (
            cleo,
            ada,
            json!({"image": {"url": "https://example.org/elm.jpg", "width": 1024, "height": 768}, "text": "The elm"}),
        ),
        (dov, ada, json!({"video": {"url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ", "length_seconds": 212}})),
        (ada, dov, json!({"text": "Thank you for the walnuts."})),
    ];
    for (from, to, mut message) in direct {
        message["sender"] = from.id.clone().into();
        message["recipient"] = to.id.clone().into();
        http.post("/messages", Some(&from.token), &message)?;
    }
    Ok(Made { chatroom: room, tokens: users.into_iter().map(|user| user.token).collect() })
}

/// Registers a user, or signs in the one of the run before.
fn sign_in(http: &mut Http, username: &str, name: &str) -> Result<User> {
    let new = json!({"username": username, "password": PASSWORD, "name": name});
    let session = match http.try_post("/register", None, &new)? {
        (201, session) => session,
        (409, _) => {
            let old = json!({"username": username, "password": PASSWORD});
            http.post("/login", None, &old).with_context(|| format!("there is another {username} here"))?
        }
        (status, answer) => bail!("{username} was not registered: {status} {answer}"),
    };
    Ok(User { id: text(&session["user"]["id"])?, token: text(&session["token"])? })
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("the answer lacks a text")
}

#[cfg(test)]
mod tests {
    use testkit::Cluster;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn b3_10_the_example_fills_a_server_with_what_it_says() {
        for cluster in [Cluster::all().await, Cluster::split().await, Cluster::all_on_servers().await] {
            is_filled(&cluster, 1).await;
            is_filled(&cluster, 2).await;
        }
    }

    async fn is_filled(cluster: &Cluster, rooms: usize) {
        let address = cluster.client().address();
        let made = tokio::task::spawn_blocking(move || fill(address)).await.expect("no panic").expect("it fills");
        let ada = cluster.other_client().with_token(made.tokens.first().map(String::as_str));
        let page = ada.get(&format!("/chatrooms/{}/messages", made.chatroom)).await.expect(200);
        assert_eq!(page["data"].as_array().map(Vec::len), Some(TALK.len() + 1));
        assert_eq!(page["data"][1]["message_str"], TALK[TALK.len() - 1].1);
        let newest = &ada.get(&format!("/v1/conversations/{}/messages", made.chatroom)).await.expect(200)["items"][0];
        assert_eq!((&newest["attachment"]["width"], &newest["attachment"]["height"]), (&240.into(), &160.into()));
        let picture = newest["attachment"]["id"].as_str().expect("it has an id");
        let picture = ada.download(&format!("/v1/attachments/{picture}?redirect=false"), &[]).await;
        assert_eq!((picture.status, &*picture.bytes), (200, PICTURE));
        let listed = ada.get("/chatrooms").await.expect(200);
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(rooms));
        assert_eq!(listed["data"][0]["members_count"], 4);
        let recent = ada.get("/v1/messages/recent?limit=100").await.expect(200);
        assert_eq!(recent["items"].as_array().map(Vec::len), Some(3 * rooms));
    }
}
