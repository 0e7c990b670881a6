//! Several processes that serve one directory, on Postgres.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use super::*;

/// Commands that are under way at the same time.
const AT_ONCE: usize = 60;

/// A database of its own on the shared server. Dropped when the test ends well.
struct Database(String);

impl Database {
    async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("ingest_{}_{count}_{}", std::process::id(), Timestamp::now().as_millis());
        administer(format!("CREATE DATABASE {name}")).await;
        let database = Self(name);
        directory::migrate(&database.config(), std::path::Path::new("/nowhere")).await.unwrap();
        database
    }

    fn config(&self) -> directory::Config {
        let url = format!("{}/{}", servers::endpoints().postgres, self.0).into();
        directory::Config::Postgres { url, replica_url: None, max_connections: 8 }
    }

    async fn remove(self) {
        administer(format!("DROP DATABASE {} WITH (FORCE)", self.0)).await;
    }
}

async fn administer(sql: String) {
    let url = format!("{}/postgres", servers::endpoints().postgres);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Processes that serve one directory: each has it opened by itself, and they meet at one log.
struct Several {
    stores: Arc<Stores>,
    services: Vec<Running>,
    database: Database,
}

impl Several {
    /// Several processes, the first of which relays.
    async fn new(count: usize) -> Self {
        let database = Database::new().await;
        let stores = Stores::open_with(tempfile::tempdir().unwrap(), &database.config()).await;
        let mut several = Self { stores: Arc::new(stores), services: vec![], database };
        for _ in 0..count {
            several.start().await;
            several.until_served().await;
        }
        several
    }

    async fn start(&mut self) {
        let directory = directory::open(&self.database.config(), std::path::Path::new("/nowhere")).await.unwrap();
        let shutdown = CancellationToken::new();
        let seams = Seams { directory, ..self.stores.seams() };
        self.services.push(Running { task: tokio::spawn(run(seams, shutdown.clone())), shutdown });
    }

    /// Waits until events get into the log.
    async fn until_served(&self) {
        let [ada] = self.stores.register().await;
        let (group, command) = create(ada, &[]);
        done(self.stores.ask(&command).await);
        let told = async {
            while self.stores.told(group).await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
    }

    /// Sends all at once, each again and again until it is carried out, as edges and their clients do.
    async fn ask_all(&self, commands: impl IntoIterator<Item = Command>) {
        let mut asking = JoinSet::new();
        for command in commands {
            let stores = self.stores.clone();
            asking.spawn(async move { ask_until_done(&stores, &command).await });
        }
        asking.join_all().await;
    }

    async fn until_outbox_is_empty(&self) {
        let emptied = async {
            while !self.stores.is_outbox_empty().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, emptied).await.unwrap();
    }

    async fn end(self) {
        for service in self.services {
            service.stop().await.unwrap();
        }
        self.database.remove().await;
    }
}

async fn ask_until_done(stores: &Stores, command: &Command) {
    while stores.ask(command).await == Answer::Unavailable {
        tokio::task::yield_now().await;
    }
}

/// Lets others go on so many times.
async fn a_moment(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_process_is_asked_the_events_are_in_the_log_before_the_answer() {
    let several = Several::new(2).await;
    let [ada, bob] = several.stores.register().await;
    let started = Instant::now();
    for _ in 0..20 {
        let (group, command) = create(ada, &[bob]);
        done(several.stores.ask(&command).await);
        assert_eq!(several.stores.told(group).await, added(&[ada, bob]));
        done(several.stores.ask(&remove(group, ada, bob)).await);
        assert_eq!(several.stores.told(group).await.last(), Some(&Body::MemberRemoved { user: bob }));
    }
    // Nobody waits for anybody's next look.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    several.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_know_the_version_of_a_change_before_they_hear_of_it() {
    let several = Several::new(1).await;
    let [ada, bob] = several.stores.register().await;
    let mut feed = several.stores.feed(&[Topic::Directory]).await;
    let (_, command) = create(ada, &[bob]);
    let before = several.stores.directory.version().await.unwrap();
    let Answer::Done { version, .. } = several.stores.ask(&command).await else { panic!("it was not carried out") };
    assert!(before < version && version <= several.stores.directory.version().await.unwrap());
    let (mut known, mut heard) = (false, 0);
    while heard < 2 {
        match notices(&mut feed, 1).await.remove(0).1 {
            Notice::DirectoryChanged { version } => known |= version > before.0,
            Notice::MemberAdded { .. } => {
                assert!(known, "a change was told before its version");
                heard += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    several.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_to_two_processes_are_each_told_once_and_in_order() {
    let several = Several::new(2).await;
    let [ada, bob] = several.stores.register().await;
    let (group, command) = create(ada, &[]);
    done(several.stores.ask(&command).await);
    let (others, commands): (Vec<_>, Vec<_>) = (0..AT_ONCE).map(|_| create(ada, &[bob])).unzip();
    let changes = (0..AT_ONCE).map(|number| match number % 2 {
        0 => add(group, ada, bob),
        _ => remove(group, ada, bob),
    });
    several.ask_all(commands.into_iter().chain(changes)).await;
    several.until_outbox_is_empty().await;
    for other in others {
        assert_eq!(several.stores.told(other).await, added(&[ada, bob]));
    }
    // Whoever came must go before it comes again.
    let of_bob: Vec<_> = several.stores.told(group).await.split_off(1);
    for (number, body) in of_bob.iter().enumerate() {
        let expected = if number % 2 == 0 { added(&[bob]).remove(0) } else { Body::MemberRemoved { user: bob } };
        assert_eq!(*body, expected);
    }
    several.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_process_that_relays_is_killed_another_goes_on_and_nothing_is_told_twice() {
    let mut several = Several::new(2).await;
    let [ada, bob] = several.stores.register().await;
    for round in 0..5 {
        let (groups, commands): (Vec<_>, Vec<_>) = (0..AT_ONCE).map(|_| create(ada, &[bob])).unzip();
        // The oldest one relays. It dies at another moment of each round.
        let relaying = several.services.remove(0);
        let killing = async {
            a_moment(round * 40).await;
            relaying.task.abort();
            Instant::now()
        };
        let (killed, ()) = tokio::join!(killing, several.ask_all(commands));
        several.until_outbox_is_empty().await;
        assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
        for group in groups {
            assert_eq!(several.stores.told(group).await, added(&[ada, bob]), "round {round}");
        }
        several.start().await;
    }
    several.end().await;
}
