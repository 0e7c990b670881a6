use std::collections::BTreeSet;

use proptest::prelude::{any, proptest};
use serde_json::{Map, Value};
use types::Epoch;

use super::*;

const C: &str = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40";

fn parse(text: &str) -> Result<Request, Malformed> {
    Request::parse(&text.replace("$C", C))
}

#[test]
fn a_message_is_read_whatever_stands_first() {
    for text in [
        r#"{"type":"send","ref":"a1","conversation":"$C","id":"$C","text":"hi \"you\""}"#,
        r#"{"text":"hi \u0022you\u0022","id":"$C","ref":"a1","kind":"text","conversation":"$C","type":"send"}"#,
    ] {
        let request = parse(text).unwrap();
        let Action::Send(conversation, draft) = request.action else { panic!("{text}") };
        assert_eq!(request.reference.as_deref(), Some("a1"));
        assert_eq!((conversation.to_string(), draft.id.unwrap().to_string()), (C.into(), C.into()));
        assert_eq!(draft.content, Content { text: "hi \"you\"".into(), ..Content::default() });
    }
}

#[test]
fn every_type_is_read() {
    for (text, wanted) in [
        (r#"{"type":"edit","conversation":"$C","message":"$C","text":""}"#, "Edit("),
        (r#"{"type":"delete","conversation":"$C","message":"$C"}"#, "Delete("),
        (r#"{"type":"read","conversation":"$C","seq":4}"#, "Read("),
        (r#"{"type":"typing","conversation":"$C"}"#, "Typing("),
        (r#"{"type":"watch","users":["$C"]}"#, "Watch"),
        (r#"{"type":"ping"}"#, "Ping"),
        (r#"{"type":"resume","positions":{"$C":{"epoch":"00000007","seq":0}}}"#, "Resume(Positions("),
        (r#"{"type":"send","conversation":"$C","kind":"image","image":{"url":"u","width":1,"height":2}}"#, "Send("),
    ] {
        let action = format!("{:?}", parse(text).unwrap().action);
        assert!(action.starts_with(wanted), "{text}: {action}");
    }
}

#[test]
fn a_resume_names_positions_or_one_place() {
    let Action::Resume(from) = parse(r#"{"type":"resume","position":"00000007.a.b"}"#).unwrap().action else {
        panic!()
    };
    assert_eq!(from, From::Place(Vector { epoch: Epoch::new(7), seqs: vec![10, 11] }));
    let text = r#"{"type":"resume","positions":{"$C":{"epoch":"00000007","seq":9}}}"#;
    let Action::Resume(From::Positions(positions)) = parse(text).unwrap().action else { panic!() };
    assert_eq!(positions.into_values().collect::<Vec<_>>(), [Position { epoch: Epoch::new(7), seq: 9 }]);
}

#[test]
fn what_is_not_understood_says_why_and_keeps_its_ref() {
    for (text, reference, code, detail) in [
        ("", None, "malformed", "EOF"),
        ("nonsense", None, "malformed", "expected"),
        ("[]", None, "malformed", "invalid length"),
        ("{}", None, "malformed", "`type`"),
        (r#"{"type":"fly","ref":"a"}"#, Some("a"), "unknown_type", "`fly`"),
        (r#"{"type":7,"ref":"a"}"#, Some("a"), "malformed", "string"),
        (r#"{"type":"send","ref":"a"}"#, Some("a"), "malformed", "`conversation` is missing"),
        (r#"{"type":"send","ref":"a","conversation":"x","text":"t"}"#, Some("a"), "malformed", "conversation"),
        (
            r#"{"type":"send","ref":"a","conversation":"$C","text":"t","color":"red"}"#,
            Some("a"),
            "malformed",
            "`color`",
        ),
        (r#"{"type":"send","ref":"a","conversation":"$C","text":"t","seq":1}"#, Some("a"), "malformed", "`seq`"),
        (r#"{"type":"send","ref":"a","conversation":"$C","text":"t","text":"u"}"#, Some("a"), "malformed", "duplicate"),
        (
            r#"{"type":"send","ref":"a","conversation":"$C","kind":"image","text":"t"}"#,
            Some("a"),
            "malformed",
            "`text`",
        ),
        (r#"{"type":"read","ref":"a","conversation":"$C","seq":-1}"#, Some("a"), "malformed", "-1"),
        (r#"{"type":"resume","ref":"a"}"#, Some("a"), "malformed", "either"),
        (r#"{"type":"resume","ref":"a","positions":{}}"#, Some("a"), "malformed", "either"),
        (r#"{"type":"resume","ref":"a","position":"7","positions":{}}"#, Some("a"), "malformed", "either"),
        (r#"{"type":"resume","ref":"a","position":"seven"}"#, Some("a"), "malformed", "`position`"),
        (r#"{"type":"ping","ref":7}"#, None, "malformed", "string"),
    ] {
        let malformed = parse(text).unwrap_err();
        assert_eq!((malformed.reference.as_deref(), malformed.code), (reference, code), "{text}: {}", malformed.detail);
        assert!(malformed.detail.contains(detail), "{text}: {}", malformed.detail);
    }
}

#[test]
fn a_long_ref_is_refused_and_not_repeated() {
    let malformed = parse(&format!(r#"{{"type":"ping","ref":"{}"}}"#, "r".repeat(65))).unwrap_err();
    assert_eq!((malformed.reference, malformed.code), (None, "malformed"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        drop(Request::parse(&text));
    }
}

/// What `asyncapi.json` says of a frame that clients send.
struct Described {
    name: String,
    schema: Value,
    examples: Vec<Map<String, Value>>,
}

fn described() -> Vec<Described> {
    let live: Value = serde_json::from_str(include_str!("../../asyncapi.json")).unwrap();
    let at = |reference: &Value| live.pointer(reference["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
    let operations = live["operations"].as_object().unwrap().values();
    let received = operations.filter(|operation| operation["action"] == "receive");
    let messages = received.map(|operation| at(at(&operation["messages"][0])));
    let described = messages.map(|message| {
        let examples = message["examples"].as_array().unwrap().iter();
        Described {
            name: message["name"].as_str().unwrap().to_owned(),
            schema: at(&message["payload"]).clone(),
            examples: examples.map(|example| example["payload"].as_object().unwrap().clone()).collect(),
        }
    });
    described.collect()
}

fn read(frame: &Map<String, Value>) -> Result<Request, Malformed> {
    Request::parse(&Value::Object(frame.clone()).to_string())
}

#[test]
fn frames_are_read_as_they_are_described() {
    let described = described();
    let names: BTreeSet<&str> = described.iter().map(|one| one.name.as_str()).collect();
    let wanted = ["delete", "delivered", "edit", "ping", "read", "resume", "send", "typing", "watch"];
    assert_eq!(names, BTreeSet::from(wanted));
    // A good value for each field that any frame has.
    let values: Map<String, Value> =
        described.iter().flat_map(|one| &one.examples).flat_map(|example| example.clone()).collect();
    for Described { name, schema, examples } in &described {
        for example in examples {
            read(example).unwrap_or_else(|malformed| panic!("{name}: {malformed:?}"));
            for field in schema["required"].as_array().unwrap() {
                let mut without = example.clone();
                without.remove(field.as_str().unwrap());
                assert!(read(&without).is_err(), "{name} without {field}");
            }
            for (field, value) in &values {
                let mut with = example.clone();
                with.insert(field.clone(), value.clone());
                let is_described = schema["properties"].get(field).is_some();
                assert!(is_described || read(&with).is_err(), "{name} with {field}");
            }
        }
    }
}
