//! A whole cluster in a test: any split of roles, and clients that speak to it over the network.
//!
//! A scenario is an async function that takes a [`Cluster`]; [`scenarios!`] makes a test of it for every shape
//! of cluster.

mod behind;
mod cluster;
pub mod files;
mod http;
mod process;
mod socket;
mod stored;

pub use behind::stores_on;
pub use cluster::{Cluster, REGIONS, config};
pub use http::{Answer, Client, Download, PASSWORD};
pub use process::Process;
pub use socket::Socket;
pub use stored::Stored;

use std::time::Duration;

/// How long anything may take that a test waits for. Long, for machines are busy; a test that passes never
/// waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is `Some`.
///
/// # Panics
/// When it is still `None` after [`PATIENCE`], or one answer takes longer than that.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    eventually_within(PATIENCE, what, ask).await
}

async fn eventually_within<T, F>(patience: Duration, what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = tokio::time::Instant::now();
    loop {
        let answer = tokio::time::timeout(patience, ask()).await;
        if let Ok(Some(answer)) = answer {
            return answer;
        }
        assert!(began.elapsed() < patience, "{what} did not come about within {patience:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for something that must come.
///
/// # Panics
/// When it has not after [`PATIENCE`].
pub async fn in_time<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    let Ok(came) = tokio::time::timeout(PATIENCE, awaited).await else {
        panic!("{what} did not come about within {PATIENCE:?}");
    };
    came
}

/// Makes a test of each scenario for every shape of cluster: all roles in one and split roles on embedded stores, all
/// roles in one on real stores, and a process for each role on real stores.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        $crate::scenarios!(@shape all_roles_in_one, $crate::Cluster::all(), $($name)+);
        $crate::scenarios!(@shape split_roles, $crate::Cluster::split(), $($name)+);
        $crate::scenarios!(@shape all_on_servers, $crate::Cluster::all_on_servers(), $($name)+);
        $crate::scenarios!(@shape processes_on_servers,
            $crate::Cluster::processes(env!("CARGO_BIN_EXE_rookery-under-test")), $($name)+);
    };
    (@shape $shape:ident, $cluster:expr, $($name:ident)+) => {
        mod $shape {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let cluster = $cluster.await;
                super::$name(&cluster).await;
                // A server has room for so many buckets.
                cluster.stored().remove().await;
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "an answer did not come about")]
    async fn a_question_that_is_never_answered_ends() {
        eventually_within(Duration::from_millis(1), "an answer", std::future::pending::<Option<()>>).await;
    }
}
