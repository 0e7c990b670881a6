//! The commands that do one thing and end.

use anyhow::{Context, bail};
use types::Timestamp;

use crate::args::GrantedRole;
use crate::config::Config;
use crate::stores;

/// `rookery config`: prints the effective configuration as TOML, without secrets.
#[expect(clippy::print_stdout, reason = "printing is what this command is for")]
pub fn print_config(config: &Config) {
    print!("{}", config.without_secrets().to_toml());
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
