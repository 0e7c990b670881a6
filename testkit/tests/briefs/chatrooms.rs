//! Chatrooms: `/chatrooms`.

use serde_json::{Value, json};
use testkit::{Client, Cluster, PASSWORD, eventually, scenarios};

use super::{operator_and_importer, texts};

scenarios!(
    b3_02_recent_messages_are_read_by_number_and_by_days,
    b3_06_a_batch_is_stored_in_order_by_its_sender_alone,
    b3_06_an_import_keeps_senders_and_times_and_counts_by_them,
    b3_07_messages_are_read_by_sender_by_days_and_by_pages,
    b3_08_a_chatroom_is_made_and_users_are_invited,
    b3_09_users_are_made_and_see_their_chatrooms,
);

async fn room(owner: &Client, users: &[&Client]) -> String {
    let user_ids: Vec<&str> = users.iter().map(|user| user.id()).collect();
    let room = owner.post("/chatrooms", json!({"name": "Engines", "user_ids": user_ids})).await.expect(201);
    room["data"]["id"].as_str().unwrap().to_owned()
}

fn message(text: &str, sender: &Client, at: &Value) -> Value {
    json!({"message_str": text, "message_sent_ts": at, "sender_user_id": sender.id()})
}

/// The last hundred, or those of the last thirty days, from one sender or from all.
async fn b3_02_recent_messages_are_read_by_number_and_by_days(cluster: &Cluster) {
    const EACH: usize = 60;
    let (_, importer) = operator_and_importer(cluster).await;
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let cyd = cluster.client().register("cyd").await;
    let to_cyd = |sender: &Client| format!("/v1/conversations/{}/messages", direct(sender, &cyd));
    let old = json!({"text": "long ago", "sender": ada.id(), "sent_at": "2019-05-01T12:00:00Z"});
    let old = importer.post(&to_cyd(&ada), old).await.expect(201);
    assert_eq!(old["created_at"], "2019-05-01T12:00:00.000Z");
    let mut sent: Vec<Value> = vec![old];
    for number in 0..EACH {
        for sender in [&ada, &ben] {
            sent.push(sender.post(&to_cyd(sender), json!({"text": number.to_string()})).await.expect(201));
        }
    }
    sent.reverse();
    let recent = async |query: &str| cyd.get(&format!("/v1/messages/recent?{query}")).await.expect(200);
    let ids = |messages: &[Value]| texts(&messages.into(), "id");
    eventually("both senders are known", || async {
        let two = texts(&recent("limit=2").await["items"], "sender");
        (two == [ben.id(), ada.id()]).then_some(())
    })
    .await;

    let page = recent("limit=100").await;
    assert_eq!(texts(&page["items"], "id"), ids(&sent[..100]), "the last hundred of all");
    let rest = recent(&format!("limit=100&cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!((texts(&rest["items"], "id"), &rest["next"]), (ids(&sent[100..]), &Value::Null));
    let of_ada: Vec<Value> = sent.iter().filter(|message| message["sender"] == ada.id()).cloned().collect();
    let page = recent(&format!("limit=100&sender={}", ada.id())).await;
    assert_eq!((texts(&page["items"], "id"), &page["next"]), (ids(&of_ada), &Value::Null), "fewer of one");

    let month = types::Timestamp::now().minus(std::time::Duration::from_secs(30 * 24 * 60 * 60));
    let page = recent(&format!("limit=100&since={month}&sender={}", ada.id())).await;
    assert_eq!(texts(&page["items"], "id"), ids(&of_ada), "what was imported today is of today, whenever it was said");
    let since = sent[20]["created_at"].as_str().unwrap();
    let page = recent(&format!("limit=100&since={since}")).await;
    let later: Vec<Value> =
        sent[..EACH].iter().filter(|one| one["created_at"].as_str() >= Some(since)).cloned().collect();
    assert!(later.len() > 20);
    assert_eq!(texts(&page["items"], "id"), ids(&later), "none that was stored before");
    let ahead = types::Timestamp::now().plus(std::time::Duration::from_secs(60));
    assert_eq!(recent(&format!("since={ahead}")).await["items"], json!([]));
}

fn direct(one: &Client, other: &Client) -> String {
    let mut ids = [one.id(), other.id()];
    ids.sort_unstable();
    ids.join("~")
}

async fn b3_06_a_batch_is_stored_in_order_by_its_sender_alone(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let path = format!("/chatrooms/{}/messages", room(&ada, &[&ben]).await);
    let at = json!("2020-01-31T09:30:00Z");
    let many: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    let data: Vec<Value> = many.iter().map(|text| message(text, &ada, &at)).collect();
    let sent = ada.post(&path, json!({ "data": data })).await.expect(201);
    let page = ben.get(&path).await.expect(200);
    let mut ids = texts(&page["data"], "message_id");
    ids.reverse();
    assert_eq!(texts(&sent["data"], "message_id"), ids, "ids come in the order of the request");
    assert_eq!(texts(&page["data"], "message_str").iter().rev().collect::<Vec<_>>(), many.iter().collect::<Vec<_>>());
    let stored_at = page["data"][0]["message_sent_ts"].as_str().unwrap();
    assert!(stored_at > "2026", "without an import the log says when: {stored_at}");

    let of_ben = json!({"data": [message("mine", &ada, &at), message("his", &ben, &at)]});
    assert_eq!(ada.post(&path, of_ben).await.expect(403)["code"], "forbidden");
    let empty = json!({"data": [message("fine", &ada, &at), message(" ", &ada, &at)]});
    assert_eq!(ada.post(&path, empty).await.expect(422)["errors"][0]["pointer"], "/data/1/message_str");
    for data in [vec![], vec![message("x", &ada, &at); 101]] {
        assert_eq!(ada.post(&path, json!({ "data": data })).await.expect(422)["errors"][0]["pointer"], "/data");
    }
    let eve = cluster.client().register("eve").await;
    eve.post(&path, json!({"data": [message("x", &eve, &at)]})).await.expect(404);
    assert_eq!(ben.get(&path).await.expect(200)["data"], page["data"], "what is refused is refused as a whole");

    let mut again = message("once", &ada, &Value::Null);
    again["message_id"] = json!(types::EventId::generate(types::Region::default()));
    let first = ada.post(&path, json!({"data": [again]})).await.expect(201);
    assert_eq!(ada.post(&path, json!({"data": [again]})).await.expect(201), first);
    again["message_str"] = json!("another");
    assert_eq!(ada.post(&path, json!({"data": [again]})).await.expect(409)["errors"][0]["pointer"], "/data/0");
}

async fn b3_06_an_import_keeps_senders_and_times_and_counts_by_them(cluster: &Cluster) {
    let (operator, importer) = operator_and_importer(cluster).await;
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let id = room(&ada, &[&ben]).await;
    let path = format!("/chatrooms/{id}/messages");
    let data = json!([
        message("oldest", &ada, &json!("2019-05-01T12:00:00Z")),
        message("later", &ben, &json!(1_556_712_000)),
        message("latest", &ada, &json!("2019-05-01T14:00:00Z")),
    ]);
    let sent = importer.post(&path, json!({ "data": data })).await.expect(201);
    let page = ben.get(&path).await.expect(200);
    assert_eq!(texts(&page["data"], "message_str"), ["latest", "later", "oldest"], "order is the log's");
    let times = ["2019-05-01T14:00:00.000Z", "2019-05-01T12:00:00.000Z", "2019-05-01T12:00:00.000Z"];
    assert_eq!(texts(&page["data"], "message_sent_ts"), times);
    assert_eq!(page["data"][1]["sender_user_id"], ben.id());
    let oldest = sent["data"][0]["message_id"].as_str().unwrap();
    ada.delete(&format!("/v1/conversations/{id}/messages/{oldest}")).await.expect(204);
    let gone = ada.get(&format!("/v1/conversations/{id}/messages/{oldest}")).await.expect(200);
    assert_eq!((&gone["deleted"], &gone["created_at"]), (&json!(true), &json!("2019-05-01T12:00:00.000Z")));

    let ahead = json!({"data": [message("x", &ada, &json!("2100-01-01T00:00:00Z"))]});
    let refused = importer.post(&path, ahead).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/data/0/message_sent_ts");
    let of_stranger = json!({"data": [message("x", &operator, &Value::Null)]});
    importer.post(&path, of_stranger).await.expect(404);

    let counted = |range: &'static str| {
        let ada = ada.clone();
        async move { ada.get(&format!("/v1/analytics/top-users?{range}")).await.expect(200)["items"].clone() }
    };
    let day = "start=2019-05-01T00:00:00Z&end=2019-05-02T00:00:00Z";
    eventually("the import is counted", || async {
        let top = counted(day).await;
        (top.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let top = counted(day).await;
    assert_eq!((&top[0]["user"]["id"], &top[0]["messages"]), (&json!(ada.id()), &json!(2)));
    assert_eq!(counted("start=2019-05-01T12:00:00.001Z&end=2019-05-02T00:00:00Z").await[0]["messages"], 1);
    assert_eq!(counted("start=2020-01-01T00:00:00Z").await, json!([]), "nothing counts by when it was stored");
}

async fn b3_07_messages_are_read_by_sender_by_days_and_by_pages(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let path = format!("/chatrooms/{}/messages", room(&ada, &[&ben]).await);
    for n in 0..3 {
        for user in [&ada, &ben] {
            let data = json!({"data": [message(&format!("{n}"), user, &Value::Null)]});
            user.post(&path, data).await.expect(201);
        }
    }
    let of_ben = ada.get(&format!("{path}/{}?days=30", ben.id())).await.expect(200);
    assert_eq!(texts(&of_ben["data"], "message_str"), ["2", "1", "0"]);
    assert!(texts(&of_ben["data"], "sender_user_id").iter().all(|sender| sender == ben.id()));
    let first = ada.get(&format!("{path}?limit=4")).await.expect(200);
    let rest = ada.get(&format!("{path}?limit=4&cursor={}", first["next"].as_str().unwrap())).await.expect(200);
    let lengths = [&first, &rest].map(|page| page["data"].as_array().unwrap().len());
    assert_eq!((lengths, &rest["next"]), ([4, 2], &Value::Null));
    for query in ["days=0", "days=x", "limit=101"] {
        ada.get(&format!("{path}?{query}")).await.expect(422);
    }
    let eve = cluster.client().register("eve").await;
    eve.get(&path).await.expect(404);
    eve.get(&format!("{path}/{}", ben.id())).await.expect(404);
}

async fn b3_08_a_chatroom_is_made_and_users_are_invited(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let id = room(&ada, &[]).await;
    ben.get(&format!("/chatrooms/{id}")).await.expect(404);
    let invitation = json!({"chatroom_id": id, "user_ids": [ben.id()]});
    ben.post("/chatrooms/invite", invitation.clone()).await.expect(404);
    let invited = ada.post("/chatrooms/invite", invitation.clone()).await.expect(200);
    assert_eq!(invited["data"]["members_count"], 2);
    ben.post("/chatrooms/invite", invitation).await.expect(403);
    assert_eq!(ben.get(&format!("/chatrooms/{id}")).await.expect(200)["data"]["name"], "Engines");
    ben.send(&format!("@{}", ada.id()), "a direct conversation is no chatroom").await;
    for user in [&ada, &ben] {
        let rooms = user.get("/chatrooms").await.expect(200);
        assert_eq!(texts(&rooms["data"], "id"), [id.as_str()]);
    }
}

async fn b3_09_users_are_made_and_see_their_chatrooms(cluster: &Cluster) {
    let new = json!({"username": "hedy", "password": PASSWORD});
    let made = cluster.client().post("/users", new).await.expect(201);
    assert_eq!((&made["username"], &made["email"]), (&json!("hedy"), &Value::Null));
    let hedy = cluster.other_client().log_in("hedy").await;
    assert_eq!(made["id"], hedy.id());
    let users = hedy.get("/users?query=hed").await.expect(200);
    assert_eq!(texts(&users["items"], "username"), ["hedy"]);
    let ada = cluster.client().register("ada").await;
    let rooms = [room(&hedy, &[&ada]).await, room(&hedy, &[]).await];
    let of_hedy = hedy.get(&format!("/users/{}/chatrooms?limit=1", hedy.id())).await.expect(200);
    assert_eq!(texts(&of_hedy["data"], "id"), [rooms[1].as_str()]);
    let next = of_hedy["next"].as_str().unwrap();
    let rest = hedy.get(&format!("/users/me/chatrooms?limit=1&cursor={next}")).await.expect(200);
    assert_eq!(texts(&rest["data"], "id"), [rooms[0].as_str()]);
    ada.get(&format!("/users/{}/chatrooms", hedy.id())).await.expect(403);
}
