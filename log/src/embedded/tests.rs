use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tempfile::TempDir;
use types::Region;

use super::Options;
use crate::Log;

pub(super) const WINDOW: Duration = Duration::from_secs(120);
pub(super) const RETENTION: Duration = Duration::from_secs(3600);

pub(super) fn options(folder: &TempDir) -> Options {
    Options::new(folder.path().join("log"), Region::default(), RETENTION, WINDOW)
}

/// Opens one log in a folder of its own.
fn fixture() -> impl Fn() -> BoxFuture<'static, Arc<dyn Log>> {
    let folder = tempfile::tempdir().unwrap();
    move || {
        let options = options(&folder);
        async move { super::open(options).await.unwrap() }.boxed()
    }
}

mod keeps_the_contract {
    crate::contract::suite!(super::fixture);
}
