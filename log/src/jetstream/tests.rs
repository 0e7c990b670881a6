//! The contract on a real server, and what only a log on servers can do wrong.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use types::{EventId, Region};

use super::names::Names;
use super::{Options, migrate, open};
use crate::Log;

/// A log of a name of its own on a server. Removed when the test ends well.
struct Made {
    options: Options,
}

impl Made {
    fn on(server: &str, shards: u16) -> Self {
        let options = Options {
            servers: vec![server.to_owned()],
            name: format!("test-{}", EventId::generate(Region::default())),
            credentials: None,
            region: Region::default(),
            shards,
            replicas: 1,
            retention: Duration::from_secs(3_600),
            duplicate_window: Duration::from_secs(120),
        };
        Self { options }
    }

    /// On the server that tests share.
    fn shared(shards: u16) -> Self {
        Self::on(&servers::endpoints().nats, shards)
    }

    async fn open(&self) -> Arc<dyn Log> {
        migrate(&self.options).await.unwrap();
        open(self.options.clone()).await.unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let options = self.options.clone();
        // A thread of its own, for the test's runtime may not be blocked.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(remove(&options));
        });
        removing.join().unwrap();
    }
}

async fn remove(options: &Options) {
    let names = Names::new(&options.name, options.region, options.shards).unwrap();
    let client = async_nats::connect(&options.servers[0]).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let shards = (0..options.shards).map(|shard| names.stream(shard));
    for stream in shards.chain([names.readers_stream()]) {
        // A test may not have come to the point where it was made.
        context.delete_stream(stream).await.ok();
    }
}

/// For the contract: one log, made when it is first opened.
fn fixture() -> impl Fn() -> BoxFuture<'static, Arc<dyn Log>> {
    let made = Made::shared(1);
    move || {
        let options = made.options.clone();
        async move {
            migrate(&options).await.unwrap();
            open(options).await.unwrap()
        }
        .boxed()
    }
}

mod keeps_the_contract {
    crate::contract::suite!(crate::jetstream::tests::fixture);
}

mod elections;
mod faults;
mod processes;
mod relay;
mod settings;
mod sharing;
