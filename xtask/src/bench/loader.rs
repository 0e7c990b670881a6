//! The load client's process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::{self, CLIENT_CORE};
use super::systems::System;
use crate::load::{Joined, Phase, Plan, Report, Room};

/// A load client whose connections stand. Ended when dropped.
pub(super) struct Loader {
    process: Child,
    /// Closed first when dropped: that ends the process.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    room_size: u64,
    /// Deliveries so far, each of which was checked.
    pub(super) deliveries: u64,
    /// How the connections came about.
    pub(super) joined: Joined,
}

impl Loader {
    /// Connects all members of the rooms to the system.
    pub(super) fn start(root: &Path, system: &System, rooms: Vec<Room>) -> Result<Self> {
        let mut command = process::on_core(CLIENT_CORE, root.join("target/release/xtask"));
        let mut process = command.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let room_size = rooms.first().map_or(0, |room| room.members.len()) as u64;
        let joined = Joined { connections: 0, seconds: 0.0 };
        let mut loader = Self { process, input, output, room_size, deliveries: 0, joined };
        let plan = Plan { address: system.address()?, protocol: system.protocol(), rooms };
        loader.joined = loader.ask(&plan).with_context(|| format!("{}'s load client", system.name()))?;
        Ok(loader)
    }

    /// Runs a phase. An error when not every message reached every member of its room once and in order.
    pub(super) fn run(&mut self, phase: Phase) -> Result<Report> {
        let report: Report = self.ask(&phase)?;
        let is_exact = report.deliveries == report.messages * self.room_size && report.acks == report.messages;
        if !is_exact || !report.errors.is_empty() {
            bail!("not exact: {report:?}");
        }
        self.deliveries += report.deliveries;
        Ok(report)
    }

    fn ask<A: DeserializeOwned>(&mut self, question: &impl Serialize) -> Result<A> {
        let input = self.input.as_mut().context("no input")?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        input.write_all(&line)?;
        input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        serde_json::from_str(&answer).context("the load client gave no answer")
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}
