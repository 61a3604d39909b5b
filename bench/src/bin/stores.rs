//! `cargo run -p segue-bench --bin stores -- redis-8.0 redis-6.0`: fetches the named stores and prints, a
//! line each: name, version, path of the server.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use segue_bench::progress::Progress;
use segue_bench::stores::{self, StoreName};

/// Fetches real store servers without installing them.
#[derive(Parser)]
struct Arguments {
    /// Releases (redis-8.0) or exact versions (redis-8.0.2); without any, the whole catalogue.
    stores: Vec<StoreName>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().stores) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stores: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut names: Vec<StoreName>) -> Result<()> {
    if names.is_empty() {
        names = stores::CATALOGUE.iter().map(stores::Entry::name).collect();
    }
    let progress = Progress::new("stores");
    let stores = stores::fetch(&names, &progress);
    progress.finish();
    for (name, store) in names.iter().zip(stores?) {
        println!("{name} {} {}", store.version, store.server.display());
    }
    Ok(())
}
