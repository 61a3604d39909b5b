//! What a fault does to a cluster, and how that ends.

use std::{
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use segue_bench::child::wait_for;

use super::{
    super::lab::{Lab, MESH_PORT, Node, TRANSACTION_TIME_MAX},
    asked,
};

const DOWN_TIME: Duration = Duration::from_secs(1);
/// Longer than a word of a node is good.
const CUT_OFF_TIME: Duration = Duration::from_secs(7);
const LEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// At these the sidecar starts a store that is down.
const STARTED: [&str; 6] = ["stop", "set-aside", "install", "start", "catch-up", "notify"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sidecar that leads is killed, and started again.
    Coordinator,
    /// That of the node of which something is asked.
    OwnSidecar,
    /// The store of that node.
    Store,
    /// That node can't reach any other, nor clients it.
    CutOff,
    /// The sidecar that leads can't reach any other, nor they it; its store goes on.
    CutMesh,
}

impl Fault {
    pub const ALL: [Self; 5] =
        [Self::Coordinator, Self::OwnSidecar, Self::Store, Self::CutOff, Self::CutMesh];
}

/// A fault and the node that it meets.
pub struct Blow<'a> {
    lab: &'a Lab,
    fault: Fault,
    node: &'a Node,
}

impl<'a> Blow<'a> {
    /// `asked` is the node of which something is asked.
    pub fn new(fault: Fault, lab: &'a Lab, asked: &str, leader: Option<&str>) -> Result<Self> {
        let node = match fault {
            Fault::Coordinator | Fault::CutMesh => leader.context("nobody leads")?,
            Fault::OwnSidecar | Fault::Store | Fault::CutOff => asked,
        };
        Ok(Self { lab, fault, node: lab.named(node)? })
    }

    /// The time at which it has happened, in milliseconds since the epoch.
    pub fn strike(&self) -> Result<u64> {
        match self.fault {
            Fault::Coordinator | Fault::OwnSidecar => self.node.kill_sidecar()?,
            Fault::Store => {
                self.node.site()?.await_file()?;
                self.node.site()?.kill();
            }
            Fault::CutOff => self.lab.network.cut_off(&self.node.host)?,
            Fault::CutMesh => self.node.host.block(MESH_PORT)?,
        }
        Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
    }

    /// All is there again, but for a store that the sidecar has to start itself at this state.
    pub fn end(&self, state: &str) -> Result<()> {
        match self.fault {
            Fault::Coordinator | Fault::OwnSidecar => {
                sleep(DOWN_TIME);
                self.node.restart_sidecar()
            }
            Fault::Store => {
                sleep(DOWN_TIME);
                // At the last of them it may just have been seen.
                if STARTED.contains(&state) && state != "notify" { Ok(()) } else { self.start_store() }
            }
            Fault::CutOff => {
                sleep(CUT_OFF_TIME);
                self.lab.network.rejoin(&self.node.host)
            }
            Fault::CutMesh => {
                self.another_leads()?;
                self.node.host.unblock()
            }
        }
    }

    /// The state was over before: a store that its sidecar does not have to start any more is started.
    pub fn came_too_late(&self) -> Result<()> {
        if self.fault != Fault::Store {
            return Ok(());
        }
        let answers = wait_for(TRANSACTION_TIME_MAX, || {
            if self.node.site()?.info("server").is_ok() {
                return Ok(Some(()));
            }
            let Ok(status) = self.lab.status() else { return Ok(None) };
            let mut asked = asked(&status).into_iter();
            if asked.any(|asked| asked.node == self.node.id && STARTED.contains(&&*asked.step)) {
                return Ok(None);
            }
            self.start_store().map(Some)
        })?;
        answers.with_context(|| format!("the store of {} stays down\n{}", self.node.id, self.lab.logs()))
    }

    /// As whatever looks after services there does.
    fn start_store(&self) -> Result<()> {
        let is_master = |node: &&Node| {
            let info = node.site().and_then(|site| site.info("replication"));
            info.is_ok_and(|info| info.get("role") == Some("master"))
        };
        let master = self.lab.nodes.iter().find(is_master);
        self.node.site()?.run("start", "", master.map(|master| master.dialled(self.lab.plan.way)))
    }

    /// Whoever is alone knows that it leads nobody, and changes nothing any more.
    fn another_leads(&self) -> Result<()> {
        let others = || self.lab.nodes.iter().filter(|node| node.id != self.node.id);
        let leads = wait_for(LEAD_TIME_MAX, || {
            let leader = |node: &Node| node.status().ok()?["mesh"]["leader"].as_str().map(str::to_owned);
            Ok(others().filter_map(leader).find(|leader| *leader != self.node.id))
        })?;
        leads.with_context(|| format!("nobody leads without {}\n{}", self.node.id, self.lab.logs()))?;
        let is_alone =
            wait_for(LEAD_TIME_MAX, || Ok(self.node.status()?["mesh"]["leader"].is_null().then_some(())))?;
        is_alone.with_context(|| format!("{} is alone, and leads\n{}", self.node.id, self.lab.logs()))?;
        let told = self.node.told(&["pause"]);
        ensure!(told.is_err(), "{} is alone, and takes a command: {told:?}", self.node.id);
        Ok(())
    }
}
