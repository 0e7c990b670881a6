//! The one binary: `rookery` runs every role, `rookery edge | ingest | analytics` runs one.

use std::process::ExitCode;

use clap::Parser;
use rookery::args::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "the last word of a program that could not go on")]
fn main() -> ExitCode {
    match rookery::main(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rookery: {error:#}");
            ExitCode::FAILURE
        }
    }
}
