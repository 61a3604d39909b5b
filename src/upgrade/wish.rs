//! What an operator asks for: the body of `POST /v1/upgrade/plan` and `…/start`.

use std::time::Duration;

use segue_wire::{PeerName, Release};
use serde::{Deserialize, Serialize};

use super::{
    action::Moment,
    fleet::Fleet,
    plan::Rejected,
    rules::{ATTEMPTS_MAX, BATCH_MAX, Finalize, OnFailure, Order, Rules},
    state::{Entry, State},
    transaction::Transaction,
};

/// What is absent is as `[upgrade]` says, or as the nodes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(default, skip_serializing_if = "RulesWish::is_empty")]
    pub rules: RulesWish,
}

/// Parts of [`Rules`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesWish {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Vec<PeerName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_soak_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_before_master: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalize: Option<FinalizeWish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_time_max_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_time_max_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalizeWish {
    Manual,
    AfterMs(u64),
}

/// A wish that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{0} is not the name of a release; a release is named like redis-8.0")]
    NoRelease(String),
    #[error("the nodes run different releases ({0}); say from which one it goes with --from")]
    ManyReleases(String),
    #[error("no node has said which release it runs; say it with --from")]
    NoneKnown,
    #[error("all nodes run {0} already")]
    Already(Release),
    #[error("{0}")]
    Rule(String),
    /// Another transaction, which is not over.
    #[error("{0}")]
    Runs(String),
    #[error("{0}")]
    Rejected(#[from] Rejected),
}

/// A wish that makes sense here and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub from: Release,
    pub to: Release,
    pub rules: Rules,
    pub fleet: Fleet,
}

impl Wish {
    /// # Errors
    /// [`Unfit`].
    pub fn fit(&self, state: &State, configured: Rules, fleet: Fleet) -> Result<Fit, Unfit> {
        let to = release(&self.to)?;
        // Before the nodes: once they are upgraded, they run what is asked for, and it is not over yet.
        if let Some(running) = state.running() {
            return Err(Unfit::Runs(running.runs_already()));
        }
        let from = match &self.from {
            Some(from) => release(from)?,
            None => running(state, &fleet)?,
        };
        if from == to {
            return Err(Unfit::Already(to));
        }
        let rules = self.rules.over(configured, &fleet)?;
        Ok(Fit { from, to, rules, fleet })
    }
}

impl Fit {
    /// The transaction as it would begin.
    ///
    /// # Errors
    /// [`Unfit::Rejected`].
    pub fn begin(&self, now: Moment) -> Result<Transaction, Unfit> {
        let releases = (self.from.clone(), self.to.clone());
        let (transaction, _) = Transaction::begin(0, releases, self.rules.clone(), self.fleet.clone(), now)?;
        Ok(transaction)
    }

    #[must_use]
    pub fn entry(self, who: String, at: Moment) -> Entry {
        let Self { from, to, rules, fleet } = self;
        Entry::Start { at, who, from, to, rules, fleet }
    }
}

impl RulesWish {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn over(&self, rules: Rules, fleet: &Fleet) -> Result<Rules, Unfit> {
        let time = |wished: Option<u64>, otherwise| wished.map_or(otherwise, Duration::from_millis);
        let rules = Rules {
            order: self.order.unwrap_or(rules.order),
            first: self.first.clone().unwrap_or(rules.first),
            batch: self.batch.unwrap_or(rules.batch),
            canary: self.canary.unwrap_or(rules.canary),
            canary_soak: time(self.canary_soak_ms, rules.canary_soak),
            hold_before_master: self.hold_before_master.unwrap_or(rules.hold_before_master),
            soak: time(self.soak_ms, rules.soak),
            finalize: match self.finalize {
                None => rules.finalize,
                Some(FinalizeWish::Manual) => Finalize::Manual,
                Some(FinalizeWish::AfterMs(wait)) => Finalize::After(Duration::from_millis(wait)),
            },
            on_failure: self.on_failure.unwrap_or(rules.on_failure),
            attempts_max: self.attempts_max.unwrap_or(rules.attempts_max),
            step_time_max: time(self.step_time_max_ms, rules.step_time_max),
            gate_time_max: time(self.gate_time_max_ms, rules.gate_time_max),
        };
        if !(1..=BATCH_MAX).contains(&rules.batch) {
            return Err(Unfit::Rule(format!("batch must be 1 to {BATCH_MAX}")));
        }
        if !(1..=ATTEMPTS_MAX).contains(&rules.attempts_max) {
            return Err(Unfit::Rule(format!("attempts_max must be 1 to {ATTEMPTS_MAX}")));
        }
        if let Some(unknown) = rules.first.iter().find(|name| !fleet.members.contains_key(*name)) {
            return Err(Unfit::Rule(format!("first names {unknown}, which is no node with a store here")));
        }
        Ok(rules)
    }
}

fn release(name: &str) -> Result<Release, Unfit> {
    name.parse().map_err(|_| Unfit::NoRelease(name.to_owned()))
}

/// The one release that all nodes run.
fn running(state: &State, fleet: &Fleet) -> Result<Release, Unfit> {
    let mut said: Vec<Release> = Vec::new();
    for node in state.nodes.values().filter(|node| fleet.members.contains_key(&node.node)) {
        let Some(name) = &node.release else { continue };
        let release = release(name)?.short();
        if !said.contains(&release) {
            said.push(release);
        }
    }
    match &*said {
        [] => Err(Unfit::NoneKnown),
        [one] => Ok(one.clone()),
        many => Err(Unfit::ManyReleases(many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}
