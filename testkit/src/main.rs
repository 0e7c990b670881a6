//! The program itself, where tests of this crate find it.

use std::process::ExitCode;

use clap::Parser;
use rookery::args::Args;

#[expect(clippy::print_stderr, reason = "the last word of a program that could not go on")]
fn main() -> ExitCode {
    match rookery::main(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rookery-under-test: {error:#}");
            ExitCode::FAILURE
        }
    }
}
