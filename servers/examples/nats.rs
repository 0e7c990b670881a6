//! Starts a NATS server and waits to be ended: the server ends with it.
#![expect(clippy::print_stdout, reason = "it says where the server is")]

use servers::{Home, Nats, NatsOptions};

fn main() -> anyhow::Result<()> {
    let home = Home::open()?;
    let folder = home.scratch("example")?;
    let nats = Nats::start(&home, folder.path(), NatsOptions::default())?;
    println!("{} {}", nats.pid().unwrap_or_default(), nats.url());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
