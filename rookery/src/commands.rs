//! The commands that do one thing and end.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use log::Consumer;
use types::Timestamp;

use crate::args::GrantedRole;
use crate::config::Config;
use crate::reconcile::{self, Bounds};
use crate::stores;

/// How long ago messages were sent that `rookery reconcile` compares, unless told otherwise: time enough for
/// history and counts to have them.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// `rookery config`: prints the effective configuration as TOML, without secrets.
#[expect(clippy::print_stdout, reason = "printing is what this command is for")]
pub fn print_config(config: &Config) {
    print!("{}", config.to_toml());
}

/// `rookery migrate`: brings every store to the present schema.
///
/// # Errors
/// When a store cannot be reached, or is newer than this program.
#[expect(clippy::print_stdout, reason = "whoever runs this by hand wants an answer")]
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    stores::migrate(config).await?;
    println!("every store has the present schema");
    Ok(())
}

/// `rookery grant`: gives a user exactly these roles. A server may be running on the same folder; tokens that
/// it gave out keep their old roles until they expire.
///
/// # Errors
/// When there is no such user, or the directory cannot be written.
#[expect(clippy::print_stdout, reason = "whoever runs this by hand wants an answer")]
pub async fn grant(config: &Config, login: &str, roles: &[GrantedRole]) -> anyhow::Result<()> {
    // Opening it would make it, and a folder without users tells nothing of the mistake.
    if let directory::Config::Sqlite { path } = &config.directory {
        let path = config.data.join(path);
        ensure!(path.exists(), "there is no directory at {}: is it the right data folder?", path.display());
    }
    let directory = directory::open(&config.directory, &config.data).await?;
    let credentials = directory.credentials(login).await?.with_context(|| format!("there is no user {login}"))?;
    let command = directory::Command::SetRoles {
        by: None,
        user: credentials.user.id,
        roles: roles.iter().map(|role| directory::Role::from(*role)).collect(),
        at: Timestamp::now(),
    };
    if let Err(refusal) = directory.execute(&command).await? {
        bail!("{refusal}");
    }
    println!("{login} now has the roles {roles:?}");
    Ok(())
}

/// `rookery reconcile`: compares counts with history and prints each difference. Embedded stores must not be in
/// use by a server.
///
/// # Errors
/// When there is a difference, or a store cannot be read.
#[expect(clippy::print_stdout, reason = "printing is what this command is for")]
pub async fn reconcile(config: &Config, start: Option<Timestamp>, end: Option<Timestamp>) -> anyhow::Result<()> {
    let stores = stores::open(config).await?;
    let end = end.unwrap_or_else(|| Timestamp::now().minus(SETTLED_AFTER));
    for group in [ingest::history_worker::GROUP, analytics::worker::GROUP] {
        let behind = behind(&stores.seams, group).await?;
        if behind > 0 {
            println!("note: {group} has still {behind} events before it, which may be what differs");
        }
    }
    let compared = reconcile::reconcile(&stores.seams, Bounds { start, end }, |line| println!("{line}")).await;
    stores.seams.log.close().await;
    let reconcile::Compared { conversations, users, messages, differences } = compared?;
    println!("compared {messages} messages of {users} users in {conversations} conversations before {end}");
    if differences > 0 {
        bail!("{differences} numbers differ");
    }
    Ok(())
}

/// Events that a worker has not taken yet.
async fn behind(seams: &edge::Seams, group: &'static str) -> anyhow::Result<u64> {
    let mut events = 0;
    for shard in 0..seams.log.layout().shards {
        events += seams.log.lag(Consumer { group, shard }).await.context("the log")?.events;
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_granted_or_made_in_a_folder_without_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: folder.path().join("elsewhere"), ..Config::default() };
        let error = grant(&config, "ada", &[]).await.unwrap_err().to_string();
        assert!(error.contains("right data folder"), "{error}");
        assert!(!config.data.exists());
    }
}
