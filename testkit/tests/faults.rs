//! Faults under load on a whole cluster: three NATS servers, Cassandra, Postgres, ClickHouse, S3, two edges, two
//! ingests, two analytics workers. A checker that knows every acked message asserts that none is lost, none is there
//! twice, that all receivers see one order, that history equals the log, and that the counts equal history.
//!
//! One round of each fault here; `cargo xtask faults` runs as many as are asked for and prints the table.

#[path = "faults/check.rs"]
mod check;
#[path = "faults/fault.rs"]
mod fault;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/world.rs"]
mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fault::Fault;
use load::Load;
use testkit::Client;
use tokio::time::sleep;
use world::World;

/// Who chats.
const USERS: usize = 6;
/// How long a socket may be silent before its client gives it up. Under this load something comes all the time.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// What `cargo xtask faults` asks for.
struct Plan {
    rounds: usize,
    stopped_for: Duration,
    faults: Vec<Fault>,
}

impl Plan {
    #[expect(clippy::disallowed_methods, reason = "the runner says how many rounds")]
    fn read() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let rounds = number("ROOKERY_FAULT_ROUNDS").map_or(1, |rounds: u32| rounds as usize);
        assert!(rounds > 0, "no round shows nothing");
        Self {
            rounds,
            stopped_for: Duration::from_secs(number("ROOKERY_FAULT_SECONDS").map_or(4, u64::from)),
            faults: faults_named(&std::env::var("ROOKERY_FAULTS").unwrap_or_default()),
        }
    }
}

/// The faults whose names have one of these parts. A part that no name has is a mistake.
fn faults_named(parts: &str) -> Vec<Fault> {
    let is_named = |fault: &Fault, part: &str| format!("{fault:?}").contains(part);
    for part in parts.split(',') {
        assert!(Fault::ALL.iter().any(|fault| is_named(fault, part)), "no fault is called `{part}`: {:?}", Fault::ALL);
    }
    Fault::ALL.into_iter().filter(|fault| parts.split(',').any(|part| is_named(fault, part))).collect()
}

#[test]
fn faults_are_chosen_by_parts_of_their_names() {
    assert_eq!(faults_named(""), Fault::ALL);
    assert_eq!(faults_named("KillEdge,StopL"), [Fault::KillEdge, Fault::StopLog]);
}

#[test]
#[should_panic(expected = "no fault is called `KilEdge`")]
fn a_fault_that_does_not_exist_is_not_passed_over() {
    faults_named("KillEdge,KilEdge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults_under_load_lose_and_repeat_nothing() {
    let plan = Plan::read();
    let mut world = World::start().await;
    let mut users: Vec<Client> = Vec::new();
    for number in 0..USERS {
        users.push(world.stranger(number).register(&format!("user{number}-")).await);
    }
    println!(
        "| fault | rounds | acked | refused with 503 | unanswered | resumes | of these not whole | slowest recovery, s |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for fault in &plan.faults {
        println!("{}", rounds(&mut world, &users, *fault, &plan).await);
    }
}

/// Rounds of one fault in conversations of their own, and what came of them as a row.
async fn rounds(world: &mut World, users: &[Client], fault: Fault, plan: &Plan) -> String {
    let others: Vec<&Client> = users.iter().skip(1).collect();
    let mut conversations = Vec::new();
    for number in 0..2 {
        let owner = world.edges.client(&users[0], number);
        conversations.push(owner.create_group(&format!("{fault:?} {number}"), &others).await);
    }
    let position = world.edges.client(&users[0], 0).get(&format!("/v1/conversations/{}", conversations[0])).await;
    let epoch = position.expect(200)["position"]["epoch"].as_str().expect("a position has an epoch").to_owned();
    let mut load = Load::start(world.edges.clone(), users.to_vec(), conversations, epoch);
    let mut slowest = load.probe().await;
    for round in 0..plan.rounds {
        // The moment of the fault is what varies from round to round, not a wait for something.
        sleep(Duration::from_millis(u64::try_from(round * 137 % 900).expect("a small number"))).await;
        fault.strike(world, &load, round, plan.stopped_for).await;
        slowest = slowest.max(load.probe().await);
        load.check_clients();
    }
    load.stop_sending().await;
    check::check(&load, world.seams()).await;
    load.stop_reading().await;
    let ledger = &load.ledger;
    let number = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (acks, refusals, losses) = (number(&ledger.acks), number(&ledger.refusals), number(&ledger.losses));
    let (resumes, partial) = (number(&ledger.resumes), number(&ledger.partial_resumes));
    let (name, rounds, slowest) = (fault.name(), plan.rounds, slowest.as_secs_f64());
    format!("| {name} | {rounds} | {acks} | {refusals} | {losses} | {resumes} | {partial} | {slowest:.1} |")
}
