//! `cargo bench-peers`: Segue side by side with HAProxy (forced splice), nginx's stream module and a direct
//! connection, and what its translation costs.
//!
//! One interleaved run: each round measures everyone, in an order that is rotated from round to round, and
//! only ratios within a round are compared, because absolute figures drift. HAProxy and nginx are fetched
//! from Debian into `target/peers`. The exit status tells whether it ran, not whether the goals are met.

#[path = "../demo/build.rs"]
mod build;

mod backend;
mod commands;
mod crowd;
mod passing;
mod picture;
mod results;
mod stream;
mod translated;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use segue_bench::peers::programs::Programs;
use segue_bench::peers::proxy::{Proxy, Rival, Targets};
use segue_bench::peers::usage;
use segue_bench::progress::Progress;
use segue_bench::server::{Options, Server};
use segue_bench::stores::Store;

use results::{Results, Sample, Subject};

/// Files that are open beside those of connections; HAProxy's pipes are the most of them.
const OTHER_FILES: u64 = 1000;
/// Connections that are open beside the idle ones.
const OTHER_LINKS: u64 = 150;
/// The busy ones and a few more.
const LINKS_MIN: u64 = 1200;
const IDLE_LINKS: u64 = 10_000;

/// Measures Segue against HAProxy, nginx and a direct connection.
#[derive(Parser)]
#[command(name = "cargo bench-peers")]
struct Arguments {
    /// How often everyone is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these measures.
    #[arg(long, value_enum)]
    only: Vec<Measure>,
    /// Shorter measures, one round: shows that everything works, and no more.
    #[arg(long)]
    quick: bool,
    /// The sidecar; without it, it is built from this tree.
    #[arg(long)]
    segue: Option<PathBuf>,
    /// Where the numbers go.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the picture goes.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    Bulk,
    Ping,
    Commands,
    SetUp,
    Busy,
    Idle,
    Rdb,
    Sync,
    Stream,
}

/// How long and how many.
struct Size {
    bulk_time: Duration,
    pings: usize,
    requests: u64,
    connections: u64,
    idle_links: u64,
    data_keys: u32,
    stream_commands: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let progress = Progress::new("bench-peers");
    let files_max = usage::raise_file_limit(2 * (IDLE_LINKS + OTHER_LINKS) + OTHER_FILES)?;
    let size = arguments.size((files_max.saturating_sub(OTHER_FILES) / 2).saturating_sub(OTHER_LINKS));
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let bench = Bench::prepare(arguments, size)?;
    let mut results = Results::default();
    progress.expect(u64::from(rounds));
    for round in 1..=rounds {
        progress.step(format!("round {round} of {rounds}"));
        bench.round(round, &mut results).with_context(|| format!("round {round}"))?;
        progress.advance(1);
    }
    progress.finish();
    let about = bench.about(rounds)?;
    println!("{about}, {:.0} s\n\n{}", start.elapsed().as_secs_f64(), results.table());
    let json =
        arguments.json.clone().unwrap_or_else(|| segue_bench::workspace().join("target/bench-peers.json"));
    let mut document = results.json();
    document["about"] = about.clone().into();
    fs::write(&json, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", json.display()))?;
    if let Some(file) = &arguments.svg {
        fs::write(file, picture::svg(&results.scores(), &about))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

impl Arguments {
    fn size(&self, idle_links_max: u64) -> Size {
        if self.quick {
            return Size {
                bulk_time: Duration::from_millis(300),
                pings: 2000,
                requests: 10_000,
                connections: 400,
                idle_links: idle_links_max.min(1000),
                data_keys: 10_000,
                stream_commands: 500_000,
            };
        }
        Size {
            bulk_time: Duration::from_millis(1500),
            pings: 20_000,
            requests: 100_000,
            connections: 3000,
            idle_links: idle_links_max.min(IDLE_LINKS),
            data_keys: 300_000,
            stream_commands: 4_000_000,
        }
    }

    fn wants(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }
}

/// Everything that runs for as long as the benchmark does.
struct Bench<'a> {
    arguments: &'a Arguments,
    size: Size,
    segue: PathBuf,
    programs: Programs,
    /// `redis-benchmark` is among them.
    tools: Programs,
    targets: Targets,
    _store: Server,
    proxies: Vec<Proxy>,
    translated: Option<translated::Translated>,
    stream: Option<stream::Stream>,
}

impl<'a> Bench<'a> {
    fn prepare(arguments: &'a Arguments, size: Size) -> Result<Self> {
        let segue = arguments.segue.clone().map_or_else(build::sidecar, Ok)?;
        let programs = Programs::proxies()?;
        let kind = Store::want("redis-8.0")?;
        let store = Server::start(&kind, Options::new().arguments(&["--loglevel", "warning"]))?;
        redis::cmd("SET").arg("key:__rand_int__").arg("x".repeat(64)).exec(&mut store.client()?)?;
        let targets = Targets { redis: store.port(), tool: backend::start()? };
        let start = |rival| Proxy::start(rival, targets, size.links_max(), &segue, &programs);
        let proxies = Rival::ALL.into_iter().map(start).collect::<Result<_>>()?;
        let syncs = arguments.wants(Measure::Rdb) || arguments.wants(Measure::Sync);
        let translated = syncs.then(|| translated::Translated::start(&segue, size.data_keys)).transpose()?;
        let stream = arguments.wants(Measure::Stream).then(|| stream::Stream::start(&segue)).transpose()?;
        let tools = Programs::of_store(&kind);
        Ok(Self {
            arguments,
            size,
            segue,
            programs,
            tools,
            targets,
            _store: store,
            proxies,
            translated,
            stream,
        })
    }

    fn round(&self, round: u32, results: &mut Results) -> Result<()> {
        let mut order: Vec<&Proxy> = self.proxies.iter().collect();
        order.rotate_left(usize::try_from(round)? % self.proxies.len());
        for measure in Measure::value_variants() {
            for proxy in &order {
                let samples =
                    self.measure(*measure, proxy).with_context(|| format!("{measure:?} {}", proxy.rival))?;
                results.add(round, Subject::Rival(proxy.rival), samples);
            }
        }
        if let Some(translated) = &self.translated {
            self.translate(translated, round, results)?;
        }
        if let Some(stream) = &self.stream {
            let samples = stream.commands(self.size.stream_commands).context("stream")?;
            results.add(round, Subject::Translated, samples);
        }
        Ok(())
    }

    /// Nothing, where the measure is not wanted, or is none of passing bytes on.
    fn measure(&self, measure: Measure, proxy: &Proxy) -> Result<Vec<Sample>> {
        let size = &self.size;
        if !self.arguments.wants(measure) {
            return Ok(Vec::new());
        }
        match measure {
            Measure::Bulk => passing::bulk(proxy, size.bulk_time),
            Measure::Ping => passing::ping(proxy, size.pings),
            Measure::Commands => commands::get(proxy, &self.tools, size.requests),
            Measure::SetUp => passing::set_up(proxy, size.connections),
            Measure::Busy => commands::busy(&self.fresh(proxy.rival)?, &self.tools, size.requests),
            Measure::Idle => crowd::idle(&self.fresh(proxy.rival)?, size.idle_links),
            Measure::Rdb | Measure::Sync | Measure::Stream => Ok(Vec::new()),
        }
    }

    fn translate(
        &self,
        translated: &translated::Translated,
        round: u32,
        results: &mut Results,
    ) -> Result<()> {
        if self.arguments.wants(Measure::Rdb) {
            results.add(round, Subject::Translated, translated.rdb()?);
        }
        if self.arguments.wants(Measure::Sync) {
            let newer_first = round.is_multiple_of(2);
            for newer in [newer_first, !newer_first] {
                if newer {
                    results.add(round, Subject::Untranslated, translated.to_newer()?);
                } else {
                    results.add(round, Subject::Translated, translated.to_older()?);
                }
            }
        }
        Ok(())
    }

    fn fresh(&self, rival: Rival) -> Result<Proxy> {
        Proxy::start(rival, self.targets, self.size.links_max(), &self.segue, &self.programs)
    }

    fn about(&self, rounds: u32) -> Result<String> {
        Ok(format!(
            "{rounds} rounds, HAProxy {}, nginx {}, {} processors, {} idle connections",
            self.programs.version("haproxy")?,
            self.programs.version("nginx")?,
            std::thread::available_parallelism()?,
            self.size.idle_links,
        ))
    }
}

impl Size {
    fn links_max(&self) -> u64 {
        LINKS_MIN.max(self.idle_links + OTHER_LINKS)
    }
}
