//! A conversation from its beginning to its end, as two people's clients see it. In a split cluster they are at
//! different edges.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use testkit::{Client, Cluster, eventually, scenarios};

scenarios!(
    a_message_reaches_the_other_member_live_and_in_order,
    the_senders_other_sockets_get_the_event_too,
    an_acked_message_is_in_the_very_next_read_at_any_edge,
    an_edit_and_a_deletion_reach_readers_and_pages,
    only_the_sender_edits_and_only_sender_or_owner_deletes,
    pages_follow_each_other_without_gap_or_repeat,
    a_direct_conversation_needs_no_record,
    a_user_added_later_gets_the_group_live,
    a_removed_member_gets_nothing_more,
    an_owner_who_leaves_is_followed_by_another,
    reading_lowers_the_unread_count_everywhere,
    typing_is_shown_and_stored_nowhere,
    conversations_are_listed_by_latest_activity,
    links_to_images_and_videos_keep_their_measures,
    recent_direct_messages_come_from_one_sender_or_all,
    a_renamed_group_is_renamed_for_all,
    only_the_owner_renames_invites_and_uninvites,
    every_event_is_brought_into_history,
    counts_follow_the_messages,
);

async fn two_in_a_group(cluster: &Cluster) -> (Client, Client, String) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    (ada, ben, group)
}

fn messages_of(group: &str) -> String {
    format!("/v1/conversations/{group}/messages")
}

async fn a_message_reaches_the_other_member_live_and_in_order(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut receiver = ben.connect().await;
    let mut sender = ada.connect().await;
    let texts: Vec<String> = (0..50).map(|n| format!("message {n}")).collect();
    for text in &texts {
        let ack = sender.send_text(&group, text).await;
        assert_eq!(ack["duplicate"], false);
    }
    let mut before: Option<Value> = None;
    for text in &texts {
        let frame = receiver.next_event("message").await;
        assert_eq!(frame["event"]["text"], **text);
        assert_eq!(frame["event"]["sender"], ada.id());
        assert_eq!(frame["conversation"], *group);
        if let Some(before) = before {
            assert_eq!(frame["prev"], before["seq"], "a chain without a gap");
            assert_eq!(frame["epoch"], before["epoch"]);
            assert!(frame["seq"].as_u64() > before["seq"].as_u64());
            assert!(frame["at"].as_str() >= before["at"].as_str());
        }
        before = Some(frame);
    }
    assert_eq!(ben.texts(&group).await, texts);
}

async fn the_senders_other_sockets_get_the_event_too(cluster: &Cluster) {
    let (ada, _ben, group) = two_in_a_group(cluster).await;
    let mut phone = ada.at(&cluster.other_client()).connect().await;
    let mut laptop = ada.connect().await;
    let ack = laptop.send_text(&group, "from the laptop").await;
    assert_eq!(phone.next_event("message").await["seq"], ack["seq"]);
}

async fn an_acked_message_is_in_the_very_next_read_at_any_edge(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    for n in 0..100 {
        let sent = ada.send(&group, &n.to_string()).await;
        let page = ben.get(&format!("{}?limit=1", messages_of(&group))).await.expect(200);
        assert_eq!(page["items"][0], sent);
    }
}

async fn an_edit_and_a_deletion_reach_readers_and_pages(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut reader = ben.connect().await;
    let (first, second) = (ada.send(&group, "frist").await, ada.send(&group, "regretted").await);
    let path = |message: &Value| format!("{}/{}", messages_of(&group), message["id"].as_str().unwrap());
    let edited = ada.patch(&path(&first), json!({"text": "first"})).await.expect(200);
    assert_eq!(edited["text"], "first");
    assert!(edited["updated_at"].as_str() >= edited["created_at"].as_str());
    ada.delete(&path(&second)).await.expect(204);
    ada.delete(&path(&second)).await.expect(204);

    let edit = reader.next_event("edit").await;
    assert_eq!((&edit["event"]["message"], &edit["event"]["text"]), (&first["id"], &json!("first")));
    let deletion = reader.next_event("delete").await;
    assert_eq!(deletion["event"]["message"], second["id"]);
    let page = ben.get(&messages_of(&group)).await.expect(200);
    assert_eq!((&page["items"][1]["text"], &page["items"][1]["deleted"]), (&json!("first"), &json!(false)));
    assert_eq!(page["items"][0]["deleted"], true);
    assert_eq!(page["items"][0]["seq"], second["seq"], "a deleted message keeps its place");
    assert!(!page.to_string().contains("regretted"), "without content: {page}");
}

async fn only_the_sender_edits_and_only_sender_or_owner_deletes(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let by_ada = ada.send(&group, "ada's").await["id"].as_str().unwrap().to_owned();
    let by_ben = ben.send(&group, "ben's").await["id"].as_str().unwrap().to_owned();
    let path = |id: &str| format!("{}/{id}", messages_of(&group));
    ben.patch(&path(&by_ada), json!({"text": "mine"})).await.expect(403);
    ada.patch(&path(&by_ben), json!({"text": "mine"})).await.expect(403);
    ben.delete(&path(&by_ada)).await.expect(403);
    ada.delete(&path(&by_ben)).await.expect(204);
    assert_eq!(ben.texts(&group).await, ["ada's", ""]);
}

async fn pages_follow_each_other_without_gap_or_repeat(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut sent = Vec::new();
    for n in 0..45 {
        let sender = if n % 3 == 0 { &ben } else { &ada };
        sent.push(sender.send(&group, &n.to_string()).await);
    }
    for (order, sender) in [("desc", None), ("asc", None), ("desc", Some(ben.id())), ("asc", Some(ben.id()))] {
        let mut expected: Vec<Value> =
            sent.iter().filter(|message| sender.is_none_or(|id| message["sender"] == *id)).cloned().collect();
        if order == "desc" {
            expected.reverse();
        }
        let filter = sender.map_or_else(String::new, |id| format!("&sender={id}"));
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{}?limit=7&order={order}{filter}{cursor}", messages_of(&group));
            let page = ben.get(&path).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "{order} {sender:?}");
    }
    let middle = sent[20]["seq"].as_u64().unwrap();
    let after = ada.get(&format!("{}?after_seq={middle}&order=asc&limit=1", messages_of(&group))).await.expect(200);
    assert_eq!(after["items"][0], sent[21]);
    let before = ada.get(&format!("{}?before_seq={middle}&limit=1", messages_of(&group))).await.expect(200);
    assert_eq!(before["items"][0], sent[19]);
    let since = sent[30]["created_at"].as_str().unwrap();
    let later = ada.get(&format!("{}?since={since}&order=asc&limit=100", messages_of(&group))).await.expect(200);
    let expected: Vec<&Value> = sent.iter().filter(|message| message["created_at"].as_str() >= Some(since)).collect();
    assert_eq!(later["items"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
}

async fn a_direct_conversation_needs_no_record(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let mut receiver = ben.connect().await;
    let sent = ada.post(&messages_of(&format!("@{}", ben.id())), json!({"text": "psst"})).await.expect(201);
    let (low, high) = if ada.id() < ben.id() { (ada.id(), ben.id()) } else { (ben.id(), ada.id()) };
    assert_eq!(sent["conversation"], format!("{low}~{high}"));
    assert_eq!(receiver.next_event("message").await["event"]["text"], "psst");
    assert_eq!(ben.texts(&format!("@{}", ada.id())).await, ["psst"]);
    let mine = eventually("the direct conversation is listed", || async {
        let mine = ben.get("/v1/conversations").await.expect(200);
        (!mine["items"].as_array().unwrap().is_empty()).then_some(mine)
    })
    .await;
    assert_eq!((&mine["items"][0]["kind"], &mine["items"][0]["id"]), (&json!("direct"), &sent["conversation"]));
    let eve = cluster.client().register("eve").await;
    eve.get(&messages_of(sent["conversation"].as_str().unwrap())).await.expect(404);
    ada.post(&messages_of("@01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"), json!({"text": "?"})).await.expect(404);
}

async fn a_user_added_later_gets_the_group_live(cluster: &Cluster) {
    let (ada, _ben, group) = two_in_a_group(cluster).await;
    let cyd = cluster.other_client().register("cyd").await;
    let mut socket = cyd.connect().await;
    ada.send(&group, "before").await;
    ada.post(&format!("/v1/conversations/{group}/members"), json!({"users": [cyd.id()]})).await.expect(200);
    let added = socket.next_event("member_added").await;
    assert_eq!(added["event"]["user"], cyd.id());
    ada.send(&group, "after").await;
    let message = socket.next_event("message").await;
    assert_eq!(message["event"]["text"], "after");
    assert_eq!(message["prev"], added["seq"], "nothing lies between");
    assert_eq!(cyd.texts(&group).await, ["before", "after"]);
}

async fn a_removed_member_gets_nothing_more(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut socket = ben.connect().await;
    ada.send(&group, "while a member").await;
    socket.next_event("message").await;
    ada.delete(&format!("/v1/conversations/{group}/members/{}", ben.id())).await.expect(204);
    for n in 0..20 {
        ada.send(&group, &format!("secret {n}")).await;
    }
    assert_eq!(socket.next_of("removed").await["conversation"], *group);
    let later = socket.frames_so_far().await;
    assert!(later.iter().all(|frame| frame["type"] != "event"), "{later:?}");
    eventually("the group is gone for the removed member", || async {
        ben.get(&messages_of(&group)).await.is(404).then_some(())
    })
    .await;
    socket.send(&json!({"type": "send", "ref": "x", "conversation": group, "text": "let me in"})).await;
    assert_eq!(socket.next_of("error").await["code"], "not_found");
    assert_eq!(ada.texts(&group).await.len(), 21);
}

async fn an_owner_who_leaves_is_followed_by_another(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let path = format!("/v1/conversations/{group}");
    ben.patch(&path, json!({"name": "mine"})).await.expect(403);
    ben.delete(&path).await.expect(403);
    ada.delete(&format!("{path}/members/me")).await.expect(204);
    ada.get(&path).await.expect(404);
    let now = ben.get(&path).await.expect(200);
    assert_eq!((&now["owner"], &now["role"]), (&json!(ben.id()), &json!("owner")));
    ben.delete(&path).await.expect(204);
    ben.get(&path).await.expect(404);
}

async fn reading_lowers_the_unread_count_everywhere(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut last = Value::Null;
    for n in 0..5 {
        last = ada.send(&group, &n.to_string()).await;
    }
    ben.send(&group, "one's own is not unread").await;
    let path = format!("/v1/conversations/{group}");
    assert_eq!(ben.get(&path).await.expect(200)["unread"], 5);
    assert_eq!(ada.get(&path).await.expect(200)["unread"], 1);
    let mut phone = ben.connect().await;
    let seq = last["seq"].as_u64().unwrap();
    ben.put(&format!("{path}/read"), json!({"seq": seq})).await.expect(204);
    ben.put(&format!("{path}/read"), json!({"seq": seq - 1})).await.expect(204);
    let now = ben.get(&path).await.expect(200);
    assert_eq!((&now["unread"], &now["read"]["seq"]), (&json!(0), &json!(seq)), "it never goes back");
    assert_eq!(phone.next_of("read").await["seq"], seq, "the user's other devices are told");
}

async fn typing_is_shown_and_stored_nowhere(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut reader = ben.connect().await;
    let mut writer = ada.connect().await;
    writer.send(&json!({"type": "typing", "conversation": group})).await;
    let typing = reader.next_of("typing").await;
    assert_eq!((&typing["conversation"], &typing["user"]), (&json!(group), &json!(ada.id())));
    let events = ben.get(&format!("/v1/conversations/{group}/events?after_seq=0")).await.expect(200);
    let kinds: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|e| e["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["member_added", "member_added"]);
}

async fn conversations_are_listed_by_latest_activity(cluster: &Cluster) {
    let (ada, ben, first) = two_in_a_group(cluster).await;
    let second = ada.create_group("second", &[&ben]).await;
    let third = ada.create_group("third", &[&ben]).await;
    let direct = ada.post(&messages_of(&format!("@{}", ben.id())), json!({"text": "psst"})).await.expect(201);
    let direct = direct["conversation"].as_str().unwrap();
    let said = ada.send(&second, "latest").await;
    eventually("the direct conversation is known", || async {
        let mine = ben.get("/v1/conversations").await.expect(200);
        (mine["items"].as_array().unwrap().len() == 4).then_some(())
    })
    .await;
    let (mut ids, mut cursor, mut newest) = (Vec::new(), String::new(), Value::Null);
    loop {
        let page = ben.get(&format!("/v1/conversations?limit=3{cursor}")).await.expect(200);
        if newest.is_null() {
            newest = page["items"][0].clone();
        }
        ids.extend(page["items"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids, [second.as_str(), direct, third.as_str(), first.as_str()]);
    assert_eq!(newest["last_message"], said);
    assert_eq!(newest["position"]["seq"], said["seq"]);
    assert_eq!(newest["members_count"], 2);
    assert_eq!((&newest["name"], &newest["owner"]), (&json!("second"), &json!(ada.id())));
    assert!(newest["created_at"].as_str().unwrap() <= said["created_at"].as_str().unwrap(), "{newest}");
    let members = ben.get(&format!("/v1/conversations/{second}/members")).await.expect(200);
    let members: Vec<_> =
        members["items"].as_array().unwrap().iter().map(|member| (&member["user"]["id"], &member["role"])).collect();
    assert_eq!(members, [(&json!(ada.id()), &json!("owner")), (&json!(ben.id()), &json!("member"))]);
}

async fn links_to_images_and_videos_keep_their_measures(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let image = json!({"url": "https://example.org/rook.png", "width": 640, "height": 480});
    let video = json!({"url": "https://www.youtube.com/watch?v=rook", "length_seconds": 61, "source": "youtube"});
    let path = messages_of(&group);
    ada.post(&path, json!({"kind": "image", "image": image, "text": "look"})).await.expect(201);
    ada.post(&path, json!({"kind": "video", "video": video})).await.expect(201);
    let page = ben.get(&path).await.expect(200);
    assert_eq!((&page["items"][1]["kind"], &page["items"][1]["image"]), (&json!("image"), &image));
    assert_eq!((&page["items"][0]["kind"], &page["items"][0]["video"]), (&json!("video"), &video));
    ada.post(&path, json!({"kind": "image", "text": "without an image"})).await.expect(422);
    ada.post(&path, json!({"kind": "image", "image": {"url": "javascript:1", "width": 1, "height": 1}}))
        .await
        .expect(422);
}

async fn recent_direct_messages_come_from_one_sender_or_all(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let cyd = cluster.client().register("cyd").await;
    for n in 0..3 {
        for sender in [&ada, &ben] {
            let text = json!({"text": format!("{} {n}", sender.username())});
            sender.post(&messages_of(&format!("@{}", cyd.id())), text).await.expect(201);
        }
    }
    let texts = |page: Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect()
    };
    let (a, b) = (ada.username(), ben.username());
    let all = eventually("both senders are known", || async {
        let all = texts(cyd.get("/v1/messages/recent").await.expect(200));
        (all.len() == 6).then_some(all)
    })
    .await;
    assert_eq!(
        all,
        [format!("{b} 2"), format!("{a} 2"), format!("{b} 1"), format!("{a} 1"), format!("{b} 0"), format!("{a} 0")]
    );
    let one = texts(cyd.get(&format!("/v1/messages/recent?sender={}&limit=2", ada.id())).await.expect(200));
    assert_eq!(one, [format!("{a} 2"), format!("{a} 1")]);
}

async fn a_renamed_group_is_renamed_for_all(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut socket = ben.connect().await;
    let path = format!("/v1/conversations/{group}");
    assert_eq!(ada.patch(&path, json!({"name": "ravens"})).await.expect(200)["name"], "ravens");
    assert_eq!(socket.next_event("group_updated").await["event"]["name"], "ravens");
    assert_eq!(ben.get(&path).await.expect(200)["name"], "ravens");
}

async fn only_the_owner_renames_invites_and_uninvites(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let cyd = cluster.client().register("cyd").await;
    let path = format!("/v1/conversations/{group}");
    let members = format!("{path}/members");
    let of = async |user: &Client| -> Vec<String> {
        let members = user.get(&members).await.expect(200);
        let members = members["items"].as_array().unwrap().iter();
        members.map(|member| member["user"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let invitation = json!({"users": [cyd.id()]});
    ben.patch(&path, json!({"name": "mine"})).await.expect(403);
    ben.post(&members, invitation.clone()).await.expect(403);
    ben.delete(&format!("{members}/{}", ada.id())).await.expect(403);
    cyd.post(&members, invitation.clone()).await.expect(404);
    assert_eq!(of(&ben).await, [ada.id(), ben.id()], "what is refused has no effect");

    let invited = ada.post(&members, invitation).await.expect(200);
    assert_eq!((&invited["name"], &invited["members_count"]), (&json!("rooks"), &json!(3)));
    assert_eq!(of(&cyd).await, [ada.id(), ben.id(), cyd.id()]);
    cyd.send(&group, "thank you").await;
    ben.delete(&format!("{members}/{}", cyd.id())).await.expect(403);
    ada.delete(&format!("{members}/{}", cyd.id())).await.expect(204);
    cyd.get(&path).await.expect(404);
    cyd.post(&messages_of(&group), json!({"text": "am I?"})).await.expect(404);
    assert_eq!(of(&ben).await, [ada.id(), ben.id()]);
}

/// Reads merge history with the log, so that nobody notices a dead ingest; this looks into history itself.
async fn every_event_is_brought_into_history(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let (first, second) = (ada.send(&group, "frist").await, ben.send(&group, "regretted").await);
    let path = |message: &Value| format!("{}/{}", messages_of(&group), message["id"].as_str().unwrap());
    ada.patch(&path(&first), json!({"text": "first"})).await.expect(200);
    ben.delete(&path(&second)).await.expect(204);
    let last = ada.send(&group, "third").await;
    let (history, conversation) = (&cluster.seams().history, group.parse().unwrap());
    eventually("history has the last message", || async {
        let tail = history.tails(&[conversation]).await.unwrap().remove(0)?;
        (Some(tail.position.seq) == last["seq"].as_u64()).then_some(())
    })
    .await;
    let kinds: Vec<Value> = history.events(conversation, 0, 100).await.unwrap().iter().map(kind_of).collect();
    let members = ["member_added", "member_added"];
    let said = ["message", "message", "edit", "delete", "message"];
    assert_eq!(kinds, members.into_iter().chain(said).collect::<Vec<_>>());
    let page = history::Page {
        before_seq: None,
        after_seq: None,
        since: None,
        sender: None,
        order: history::Order::Asc,
        limit: 10,
    };
    let messages = history.messages(conversation, &page).await.unwrap();
    let texts: Vec<_> = messages.iter().map(|message| (message.content.text.as_str(), message.deleted)).collect();
    assert_eq!(texts, [("first", false), ("", true), ("third", false)]);
}

fn kind_of(entry: &types::Entry) -> Value {
    serde_json::from_slice::<Value>(&entry.payload).unwrap()["kind"].clone()
}

async fn counts_follow_the_messages(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    for n in 0..7 {
        ada.send(&group, &n.to_string()).await;
    }
    let middle = ben.send(&group, "x").await["created_at"].as_str().unwrap().to_owned();
    let users = eventually("the messages are counted", || async {
        let top = ben.get("/v1/analytics/top-users").await.expect(200);
        (top["items"][0]["messages"] == 7 && top["items"][1]["messages"] == 1).then_some(top)
    })
    .await;
    assert_eq!(users["items"][0]["user"]["username"], ada.username());
    let chats = ben.get("/v1/analytics/top-conversations").await.expect(200);
    assert_eq!(
        (&chats["items"][0]["conversation"]["name"], &chats["items"][0]["messages"]),
        (&json!("rooks"), &json!(8))
    );
    let later = ben.get(&format!("/v1/analytics/top-conversations?start={middle}")).await.expect(200);
    let earlier = ben.get(&format!("/v1/analytics/top-conversations?end={middle}")).await.expect(200);
    let count = |page: &Value| page["items"][0]["messages"].as_u64().unwrap_or(0);
    assert_eq!(count(&later) + count(&earlier), 8, "start is inclusive, end is exclusive");
    assert!(count(&later) >= 1);
    let activity = ben.get("/v1/analytics/activity?bucket=hour").await.expect(200);
    let sum: u64 = activity["items"].as_array().unwrap().iter().map(|step| step["messages"].as_u64().unwrap()).sum();
    assert_eq!(sum, 8);
    let stranger = cluster.client().register("eve").await;
    let seen = stranger.get("/v1/analytics/top-conversations").await.expect(200);
    assert_eq!(seen["items"][0]["conversation"]["name"], Value::Null, "a stranger sees counts without names");
}
