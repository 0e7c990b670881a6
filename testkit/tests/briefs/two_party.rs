//! Two parties: `/users`, `/messages`.

use serde_json::{Value, json};
use testkit::{Cluster, PASSWORD, scenarios};

use super::{operator_and_importer, texts};

scenarios!(
    b5_01_a_user_is_created_by_post_or_put,
    b5_02_a_message_is_a_text_an_image_or_a_video,
    b5_03_messages_between_two_users_are_read_by_page_number,
);

async fn b5_01_a_user_is_created_by_post_or_put(cluster: &Cluster) {
    let client = cluster.client();
    for (method, again) in [("POST", 409), ("PUT", 200)] {
        let new = json!({"username": format!("user-{method}"), "password": PASSWORD});
        let method: reqwest::Method = method.parse().unwrap();
        let made = client.request(method.clone(), "/users", Some(new.clone())).await.expect(201);
        let repeated = client.request(method.clone(), "/users", Some(new.clone())).await.expect(again);
        assert!(again == 409 || repeated["id"] == made["id"]);
        let other = json!({"username": new["username"], "password": "another password"});
        client.request(method, "/users", Some(other)).await.expect(409);
        let signed_in = cluster.other_client().with_token(made["token"].as_str());
        assert_eq!(signed_in.get("/v1/users/me").await.expect(200)["username"], new["username"]);
    }
    for body in [json!({"username": "x", "password": PASSWORD}), json!({"username": "short", "password": "short"})] {
        client.post("/users", body).await.expect(422);
    }
}

async fn b5_02_a_message_is_a_text_an_image_or_a_video(cluster: &Cluster) {
    let (_, importer) = operator_and_importer(cluster).await;
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let post = |content: Value| {
        let (ada, mut body) = (ada.clone(), json!({"sender": ada.username(), "recipient": ben.id()}));
        body.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        async move { ada.post("/messages", body).await }
    };
    post(json!({"text": "hello"})).await.expect(201);
    let image = json!({"url": "https://example.org/cat.png", "width": 640, "height": 480});
    let sent = post(json!({"kind": "image", "image": image})).await.expect(201);
    assert_eq!((&sent["kind"], &sent["image"]), (&json!("image"), &image));
    for (url, source) in [
        ("https://www.youtube.com/watch?v=1", "youtube"),
        ("https://vevo.com/1", "vevo"),
        ("https://v.example/1", "v.example"),
    ] {
        let sent = post(json!({"video": {"url": url, "length_seconds": 212}})).await.expect(201);
        assert_eq!(sent["video"], json!({"url": url, "length_seconds": 212, "source": source}));
    }
    let newest = ben.get(&format!("/messages?user={}&other={}", ben.username(), ada.id())).await.expect(200);
    assert_eq!(texts(&newest["items"], "kind"), ["video", "video", "video", "image", "text"]);
    for (content, pointer) in [
        (json!({}), "/text"),
        (json!({"kind": "video", "text": "x"}), "/kind"),
        (json!({"image": {"url": "ftp://example.org/x", "width": 1, "height": 1}}), "/image/url"),
        (json!({"image": {"url": "https://example.org/x", "width": 1}}), "/image/height"),
    ] {
        assert_eq!(post(content.clone()).await.expect(422)["errors"][0]["pointer"], pointer, "{content}");
    }
    let forged = json!({"sender": ben.id(), "recipient": ada.id(), "text": "I never said this"});
    assert_eq!(ada.post("/messages", forged.clone()).await.expect(403)["code"], "forbidden");
    let nobody = json!({"sender": ada.id(), "recipient": "nobody-at-all", "text": "x"});
    assert_eq!(ada.post("/messages", nobody).await.expect(422)["errors"][0]["pointer"], "/recipient");
    let mut imported = forged;
    imported["sent_at"] = json!("2001-09-11T12:00:00Z");
    let imported = importer.post("/messages", imported).await.expect(201);
    assert_eq!((&imported["sender"], &imported["created_at"]), (&json!(ben.id()), &json!("2001-09-11T12:00:00.000Z")));
}

async fn b5_03_messages_between_two_users_are_read_by_page_number(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let eve = cluster.client().register("eve").await;
    for n in 0..7 {
        let (from, to) = if n % 2 == 0 { (&ada, &ben) } else { (&ben, &ada) };
        from.post("/messages", json!({"sender": from.id(), "recipient": to.id(), "text": n.to_string()}))
            .await
            .expect(201);
    }
    let path = format!("/messages?user={}&other={}", ada.username(), ben.username());
    for (query, wanted) in [
        ("", vec!["6", "5", "4", "3", "2", "1", "0"]),
        ("&limit=3", vec!["6", "5", "4"]),
        ("&messages_per_page=3&page=2", vec!["3", "2", "1"]),
        ("&limit=3&page=3", vec!["0"]),
        ("&limit=3&page=4", vec![]),
        ("&limit=7&page=2", vec![]),
    ] {
        let page = ben.get(&format!("{path}{query}")).await.expect(200);
        assert_eq!(texts(&page["items"], "text"), wanted, "{query}");
    }
    let second = ada.get(&format!("{path}&limit=3&page=2")).await.expect(200);
    assert_eq!(second["page"], 2);
    let third = ada.get(&format!("{path}&limit=3&cursor={}", second["next"].as_str().unwrap())).await.expect(200);
    assert_eq!((texts(&third["items"], "text"), &third["next"]), (vec!["0".to_owned()], &Value::Null));
    for query in ["&page=0", "&page=x", "&limit=0", "&page=99999999999", "&page=1&cursor=x"] {
        ada.get(&format!("{path}{query}")).await.expect(422);
    }
    eve.get(&path).await.expect(403);
    ada.get("/messages").await.expect(422);
}
