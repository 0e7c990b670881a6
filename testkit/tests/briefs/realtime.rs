//! Real-time chat: `/auth`, `/chats`, `/groups`, `/uploads`.

use serde_json::{Value, json};
use testkit::{Cluster, PASSWORD, files, scenarios};

use super::texts;

scenarios!(
    b2_01_signing_up_and_in_gives_a_jwt_that_every_route_wants,
    b2_04_a_message_reaches_its_recipient_live_and_stands_in_the_history,
    b2_06_a_group_is_made_filled_and_read,
    b2_09_a_file_is_uploaded_and_sent_to_its_recipients_alone,
);

async fn b2_01_signing_up_and_in_gives_a_jwt_that_every_route_wants(cluster: &Cluster) {
    let stranger = cluster.client();
    let new = json!({"username": "grace", "email": "grace@example.org", "password": PASSWORD, "name": "Grace"});
    let signed_up = stranger.post("/auth/register", new.clone()).await.expect(201);
    assert_eq!(signed_up["token"].as_str().unwrap().split('.').count(), 3, "a JWT");
    assert_eq!(stranger.post("/auth/register", new).await.expect(409)["code"], "username_taken");
    stranger.post("/auth/register", json!({"username": "x", "password": PASSWORD})).await.expect(422);

    let wrong = json!({"username": "grace", "password": "not the password"});
    assert_eq!(stranger.post("/auth/login", wrong).await.expect(401)["code"], "wrong_credentials");
    for login in ["username", "email", "login"] {
        let name = if login == "email" { "grace@example.org" } else { "GRACE" };
        let session = stranger.post("/auth/login", json!({login: name, "password": PASSWORD})).await.expect(200);
        let grace = cluster.other_client().with_token(session["token"].as_str());
        let users = grace.get("/users?limit=10").await.expect(200);
        assert!(texts(&users["items"], "username").contains(&"grace".to_owned()), "{users}");
    }
    for client in [stranger.clone(), stranger.with_token(Some("a.b.c"))] {
        client.get("/users").await.expect(401);
        client
            .post("/chats/send-message", json!({"recipient": signed_up["user"]["id"], "text": "x"}))
            .await
            .expect(401);
        client.post("/groups", json!({"name": "x"})).await.expect(401);
    }
}

async fn b2_04_a_message_reaches_its_recipient_live_and_stands_in_the_history(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let eve = cluster.client().register("eve").await;
    let mut socket = ben.connect().await;
    let sent = ada.post("/chats/send-message", json!({"recipient": ben.id(), "text": "first"})).await.expect(201);
    let chat = sent["conversation"].as_str().unwrap();
    assert_eq!(socket.next_event("message").await["event"]["text"], "first");
    ben.post("/chats/send-message", json!({"chatId": chat, "text": "second"})).await.expect(201);
    let with_id = json!({"chatId": chat, "text": "third", "id": types::EventId::generate(types::Region::default())});
    let third = ada.post("/chats/send-message", with_id.clone()).await.expect(201);
    assert_eq!(ada.post("/chats/send-message", with_id).await.expect(200), third, "sent again, it is there once");

    let page = ben.get(&format!("/chats/{chat}?limit=2")).await.expect(200);
    assert_eq!(texts(&page["items"], "text"), ["third", "second"]);
    let next = page["next"].as_str().unwrap();
    let rest = ben.get(&format!("/chats/@{}?limit=2&cursor={next}", ada.id())).await.expect(200);
    assert_eq!((texts(&rest["items"], "text"), &rest["next"]), (vec!["first".to_owned()], &Value::Null));

    eve.get(&format!("/chats/{chat}")).await.expect(404);
    eve.post("/chats/send-message", json!({"chatId": chat, "text": "x"})).await.expect(404);
    for body in [json!({"text": "x"}), json!({"recipient": ben.id(), "chatId": chat, "text": "x"})] {
        ada.post("/chats/send-message", body).await.expect(422);
    }
}

async fn b2_06_a_group_is_made_filled_and_read(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let eve = cluster.client().register("eve").await;
    let group = ada.post("/groups", json!({"name": "Rooks"})).await.expect(201);
    assert_eq!(
        (&group["name"], &group["owner"], &group["members_count"]),
        (&json!("Rooks"), &json!(ada.id()), &json!(1))
    );
    let (id, mut socket) = (group["id"].as_str().unwrap(), ben.connect().await);
    let add = |user: &str| json!({ "userId": user });
    let filled = ada.post(&format!("/groups/{id}/add-user"), add(ben.id())).await.expect(200);
    assert_eq!(filled["members_count"], 2);
    socket.next_event("member_added").await;
    ben.post(&format!("/groups/{id}/add-user"), add(eve.id())).await.expect(403);
    eve.post(&format!("/groups/{id}/add-user"), add(eve.id())).await.expect(404);
    let nobody = "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40";
    let refused = ada.post(&format!("/groups/{id}/add-user"), add(nobody)).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/userId");

    ada.post("/chats/send-message", json!({"chatId": id, "text": "hello, group"})).await.expect(201);
    assert_eq!(socket.next_event("message").await["event"]["text"], "hello, group");
    let page = ben.get(&format!("/groups/{id}/messages")).await.expect(200);
    assert_eq!(texts(&page["items"], "text"), ["hello, group"]);
    eve.get(&format!("/groups/{id}/messages")).await.expect(404);
}

async fn b2_09_a_file_is_uploaded_and_sent_to_its_recipients_alone(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let cleo = cluster.other_client().register("cleo").await;
    let eve = cluster.client().register("eve").await;
    let group = ada.create_group("rooks", &[&ben, &cleo]).await;
    let mut socket = ben.connect().await;
    let upload = async |by: &testkit::Client, query: &str, content_type: &str, body: Vec<u8>| {
        by.send_bytes(reqwest::Method::POST, &format!("/uploads?{query}"), content_type, Some(body)).await
    };
    let to_ben = format!("to={}&name=paper.pdf", ben.id());
    let form = [
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n".to_vec(),
        files::png(3, 2),
        b"\r\n--x--\r\n".to_vec(),
    ];
    let in_form = "multipart/form-data; boundary=x";
    for (query, called, body, file, (name, content_type), readers) in [
        (&to_ben, "application/pdf", files::pdf(), files::pdf(), ("paper.pdf", "application/pdf"), &[&ada, &ben][..]),
        (
            &format!("group={group}"),
            in_form,
            form.concat(),
            files::png(3, 2),
            ("a.png", "image/png"),
            &[&ada, &ben, &cleo],
        ),
    ] {
        let message = upload(&ada, query, called, body).await.expect(201);
        assert_eq!((&message["kind"], &message["sender"]), (&json!("attachment"), &json!(ada.id())));
        let attachment = &message["attachment"];
        assert_eq!((&attachment["name"], &attachment["content_type"]), (&json!(name), &json!(content_type)));
        assert_eq!(socket.next_event("message").await["event"]["attachment"], *attachment, "it is heard at once");
        let url = attachment["url"].as_str().unwrap();
        for client in [&ada, &ben, &cleo, &eve] {
            let download = client.download(url, &[]).await;
            if readers.iter().any(|reader| reader.id() == client.id()) {
                assert_eq!((download.status, download.bytes == file), (200, true), "{name}");
            } else {
                assert_eq!(download.status, 404, "{name}");
            }
        }
    }

    upload(&eve, &format!("group={group}"), "application/pdf", files::pdf()).await.expect(404);
    let disguised = upload(&ada, &to_ben, "application/pdf", files::executable()).await.expect(415);
    assert_eq!(disguised["code"], "unsupported_type");
    for query in ["name=a.pdf", &format!("to={}&group={group}", ben.id())] {
        upload(&ada, query, "application/pdf", files::pdf()).await.expect(422);
    }
    assert_eq!(
        ben.texts(&group).await.len() + ben.texts(&format!("@{}", ada.id())).await.len(),
        2,
        "nothing more came"
    );
}
