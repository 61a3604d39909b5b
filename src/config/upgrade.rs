//! `[upgrade]`: how this node is upgraded, read and checked.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use segue_wire::PeerName;

use super::{
    document::{At, Section},
    exec::{self, Commands},
    hook::{Hook, Placeholder, word},
    problem::{Problems, did_you_mean},
    rules::{ATTEMPTS_MAX, BATCH_MAX, Finalize, OnFailure, Order, Rules},
    time::{self, TIME_EXPECTED},
};

const LAG_BYTES_MAX_DEFAULT: u64 = 1 << 20;
const SAMPLE_KEYS_DEFAULT: usize = 100;
const DISK_FREE_BYTES_MIN_DEFAULT: u64 = 64 << 20;
const HOOK_TIME_MAX_DEFAULT: Duration = Duration::from_secs(5 * 60);
const PAUSE_TIME_MAX_DEFAULT: Duration = Duration::from_secs(5);

/// What this node does in an upgrade of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Of an upgrade that is started here.
    pub rules: Rules,
    pub driver: DriverKind,
    pub hooks: Hooks,
    /// So many losses may have been let through when a gate is passed.
    pub losses_max: u64,
    /// So far behind its master a store still counts as in sync.
    pub lag_bytes_max: u64,
    /// So many keys are compared with the master's at a gate.
    pub sample_keys: usize,
    /// What has to be free in the state folder and in [`Self::data_dir`].
    pub disk_free_bytes_min: u64,
    /// Where the own store keeps its data.
    pub data_dir: Option<PathBuf>,
    /// How long writes may be held while the master moves.
    pub pause_time_max: Duration,
}

/// Who moves masters and looks at stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverKind {
    Redis,
    Exec(Commands),
}

/// The commands that do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    pub stop: Hook,
    pub install: Hook,
    pub start: Hook,
    pub set_aside: Hook,
    /// How long one of them may take.
    pub time_max: Duration,
}

impl Hooks {
    /// With their keys.
    #[must_use]
    pub const fn all(&self) -> [(&'static str, &Hook); 4] {
        [
            ("stop", &self.stop),
            ("install", &self.install),
            ("start", &self.start),
            ("set_aside", &self.set_aside),
        ]
    }
}

pub(super) struct WrittenUpgrade {
    rules: Rules,
    first: Option<(usize, Vec<PeerName>)>,
    driver: Option<DriverKind>,
    hooks: Option<Hooks>,
    losses_max: u64,
    lag_bytes_max: u64,
    sample_keys: usize,
    disk_free_bytes_min: u64,
    data_dir: Option<At<String>>,
    pause_time_max: Duration,
}

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> WrittenUpgrade {
    const MANY: u64 = 1 << 40;
    let default = Rules::default();
    let line = section.line();
    let order = section.text("order", ORDER_EXPECTED, order, problems);
    let first = section.texts("first", "ids of nodes", |id| Ok::<_, String>(id.into()), problems);
    let batch = section.number("batch", "nodes", 1..=BATCH_MAX as u64, problems);
    let canary = section.number("canary", "nodes", 0..=65_535, problems);
    let hold = section.flag("hold_before_master", problems);
    let finalize = section.text("finalize", FINALIZE_EXPECTED, finalize, problems);
    let on_failure = section.text("on_failure", ON_FAILURE_EXPECTED, on_failure, problems);
    let attempts = section.number("attempts_max", "attempts", 1..=ATTEMPTS_MAX.into(), problems);
    let is_exec = section.text("driver", DRIVER_EXPECTED, is_exec, problems).is_some_and(|exec| exec.value);
    let mut time = |key, default| {
        section.text(key, TIME_EXPECTED, time::time, problems).map_or(default, |time| time.value)
    };
    let rules = Rules {
        order: order.map_or(default.order, |order| order.value),
        first: Vec::new(),
        batch: batch.map_or(default.batch, to_size),
        canary: canary.map_or(default.canary, to_size),
        canary_soak: time("canary_soak", default.canary_soak),
        hold_before_master: hold.map_or(default.hold_before_master, |hold| hold.value),
        soak: time("soak", default.soak),
        finalize: finalize.map_or(default.finalize, |finalize| finalize.value),
        on_failure: on_failure.map_or(default.on_failure, |on_failure| on_failure.value),
        attempts_max: attempts.and_then(|n| n.try_into().ok()).unwrap_or(default.attempts_max),
        step_time_max: time("step_time_max", default.step_time_max),
        gate_time_max: time("gate_time_max", default.gate_time_max),
    };
    let pause_time_max = time("pause_time_max", PAUSE_TIME_MAX_DEFAULT);
    let mut number =
        |key, unit, max, default| section.number(key, unit, 0..=max, problems).unwrap_or(default);
    let losses_max = number("losses_max", "losses", MANY, 0);
    let lag_bytes_max = number("lag_bytes_max", "bytes", MANY, LAG_BYTES_MAX_DEFAULT);
    let sample_keys = to_size(number("sample_keys", "keys", 1_000_000, SAMPLE_KEYS_DEFAULT as u64));
    let disk_free_bytes_min = number("disk_free_bytes_min", "bytes", 1 << 60, DISK_FREE_BYTES_MIN_DEFAULT);
    let data_dir = section.text("data_dir", "the path of a folder", super::written::non_empty, problems);
    let as_secondary = section.flag("start_as_secondary", problems).is_some_and(|flag| flag.value);
    let hooks = match section.inner_table("hooks", problems) {
        Some(hooks) => read_hooks(hooks, as_secondary, problems),
        None => {
            let message = "the table is missing; expected stop, install, start and set_aside";
            problems.add(line, "[upgrade.hooks]", message);
            None
        }
    };
    let exec = section.inner_table("exec", problems).map(|section| exec::read(section, problems));
    let driver = match (is_exec, exec) {
        (false, None) => Some(DriverKind::Redis),
        (true, Some(commands)) => commands.map(DriverKind::Exec),
        (true, None) => {
            problems.add(line, "[upgrade.exec]", "the table is missing, and driver = \"exec\" needs it");
            None
        }
        (false, Some(_)) => {
            problems.add(line, "[upgrade.exec]", "it is of no use without driver = \"exec\"");
            None
        }
    };
    section.finish(problems);
    WrittenUpgrade {
        rules,
        first: first.map(|first| (line, first)),
        driver,
        hooks,
        losses_max,
        lag_bytes_max,
        sample_keys,
        disk_free_bytes_min,
        data_dir,
        pause_time_max,
    }
}

fn read_hooks(mut section: Section<'_>, as_secondary: bool, problems: &mut Problems) -> Option<Hooks> {
    const EXPECTED: &str = "a program and its arguments, such as [\"systemctl\", \"stop\", \"redis\"]";
    let line = section.line();
    let mut hook = |key| {
        if !section.has(key) {
            problems.add(
                line,
                "[upgrade.hooks]",
                format!("the key \"{key}\" is missing; expected {EXPECTED}"),
            );
        }
        let words = section.texts(key, EXPECTED, word, problems)?;
        let hook = Hook::of(words);
        if hook.is_none() {
            problems.add(
                line,
                format!("[upgrade.hooks] {key}"),
                format!("there is no program; expected {EXPECTED}"),
            );
        }
        hook
    };
    let (stop, install, start, set_aside) = (hook("stop"), hook("install"), hook("start"), hook("set_aside"));
    let time_max = section.text("time_max", TIME_EXPECTED, time::time, problems);
    section.finish(problems);
    let names_master = |start: &Hook| {
        start.names(Placeholder::Master)
            || start.names(Placeholder::MasterHost) && start.names(Placeholder::MasterPort)
    };
    if start.as_ref().is_some_and(|start| !as_secondary && !names_master(start)) {
        let message = "a store that starts as a master takes writes that get lost; expected {master_host} and \
                       {master_port} among its arguments, or start_as_secondary = true in [upgrade] if the store \
                       is told otherwise whom to follow";
        problems.add(line, "[upgrade.hooks] start", message);
    }
    let time_max = time_max.map_or(HOOK_TIME_MAX_DEFAULT, |time| time.value);
    Some(Hooks { stop: stop?, install: install?, start: start?, set_aside: set_aside?, time_max })
}

pub(super) fn check<'a>(
    written: WrittenUpgrade,
    folder: &Path,
    nodes: impl Iterator<Item = &'a PeerName>,
    problems: &mut Problems,
) -> Option<Upgrade> {
    let nodes: Vec<&str> = nodes.map(|id| &**id).collect();
    let (line, first) = written.first.unwrap_or_default();
    for id in first.iter().filter(|id| !nodes.contains(&&***id)) {
        let hint =
            did_you_mean(id, nodes.iter().copied(), || format!("expected one of {}", nodes.join(", ")));
        problems.add(line, "[upgrade] first", format!("no node is called \"{id}\"; {hint}"));
    }
    Some(Upgrade {
        rules: Rules { first, ..written.rules },
        driver: written.driver?,
        hooks: written.hooks?,
        losses_max: written.losses_max,
        lag_bytes_max: written.lag_bytes_max,
        sample_keys: written.sample_keys,
        disk_free_bytes_min: written.disk_free_bytes_min,
        data_dir: written.data_dir.map(|dir| folder.join(dir.value)),
        pause_time_max: written.pause_time_max,
    })
}

const ORDER_EXPECTED: &str = "\"secondaries-first\" or \"master-first\"";
const FINALIZE_EXPECTED: &str = "\"manual\" or \"after\" and a time, such as \"after 24h\"";
const ON_FAILURE_EXPECTED: &str = "\"pause\" or \"rollback\"";
const DRIVER_EXPECTED: &str = "\"redis\" or \"exec\"";

fn order(text: &str) -> Result<Order, String> {
    match text {
        "secondaries-first" => Ok(Order::SecondariesFirst),
        "master-first" => Ok(Order::MasterFirst),
        _ => Err(format!("expected {ORDER_EXPECTED}")),
    }
}

fn finalize(text: &str) -> Result<Finalize, String> {
    match text.strip_prefix("after ") {
        _ if text == "manual" => Ok(Finalize::Manual),
        Some(wait) => time::time(wait).map(Finalize::After),
        None => Err(format!("expected {FINALIZE_EXPECTED}")),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "pause" => Ok(OnFailure::Pause),
        "rollback" => Ok(OnFailure::Rollback),
        _ => Err(format!("expected {ON_FAILURE_EXPECTED}")),
    }
}

fn is_exec(text: &str) -> Result<bool, String> {
    match text {
        "redis" => Ok(false),
        "exec" => Ok(true),
        _ => Err(format!("expected {DRIVER_EXPECTED}")),
    }
}

fn to_size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
