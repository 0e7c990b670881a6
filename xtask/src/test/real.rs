//! The real servers that the tests share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use servers::{Endpoints, Home, Kind, Started};
use tempfile::TempDir;

use crate::services;

/// Real servers for the time of the tests.
pub(super) struct Servers {
    endpoints: PathBuf,
    /// Those that we started ourselves: they end before their data do.
    _ours: Option<(Vec<Started>, TempDir)>,
}

impl Servers {
    /// Those that our caller names; or those that `cargo xtask services up` left running; or new ones, which end with
    /// us, however we do.
    pub(super) fn get() -> Result<Self> {
        if let Some(endpoints) = servers::named_endpoints_file() {
            println!("those of {}", endpoints.display());
            return Ok(Self { endpoints, _ours: None });
        }
        let home = Home::open()?;
        if services::are_up(&home.clone().for_servers_that_outlive_us())? {
            println!("those that already run");
            return Ok(Self { endpoints: servers::shared_endpoints_file(), _ours: None });
        }
        let data = home.scratch("tests")?;
        let started = servers::start_all(&home, data.path(), &Kind::ONE_OF_EACH)?;
        let mut endpoints = Endpoints::default();
        started.iter().for_each(|one| one.enter(&mut endpoints));
        let file = data.path().join("endpoints.json");
        endpoints.write(&file)?;
        Ok(Self { endpoints: file, _ours: Some((started, data)) })
    }

    /// The file that says where they are.
    pub(super) fn endpoints_file(&self) -> &Path {
        &self.endpoints
    }
}
