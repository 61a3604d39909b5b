//! What an operator's commands reach: implemented by the running sidecar, asked by the admin API.

use std::sync::Arc;

use async_trait::async_trait;
use segue_wire::PeerName;

use super::{
    action::Moment,
    fleet::Fleet,
    rules::Rules,
    state::{Answer, Entry, State},
};
use crate::cluster::{NotAgreed, Standing};

/// The upgrade as this node knows it, and the way to change it. Nothing but `propose` may wait.
#[async_trait]
pub trait UpgradeDesk: Send + Sync + 'static {
    /// The own node.
    fn node(&self) -> PeerName;

    fn now(&self) -> Moment;

    /// As last known here.
    fn state(&self) -> Arc<State>;

    fn standing(&self) -> Arc<Standing>;

    /// `[upgrade]` of this node's config: what an upgrade that is started here keeps to.
    fn rules(&self) -> Rules;

    /// The nodes of the registry that have a store, as they are now: what an upgrade that is started here
    /// begins with.
    ///
    /// # Errors
    /// Why it can't be told here, and what to do, for a person.
    fn fleet(&self) -> Result<Fleet, String>;

    /// # Errors
    /// It is not known that the entry became part of the state.
    async fn propose(&self, entry: Entry) -> Result<Answer, NotAgreed>;
}
