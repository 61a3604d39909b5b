//! The driver of any other store: commands of the operator's that print JSON.

mod run;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    config::{StoreAddress, exec::Commands},
    peers::Peers,
    stores::driver::{Demoted, Driver, DriverError, Seen, StillWanted, Switch},
};

/// What the words in braces stand for.
#[derive(Default)]
struct Words(Vec<(String, String)>);

impl Words {
    fn address(mut self, name: &str, address: &StoreAddress) -> Self {
        self.0.push((format!("{{{name}}}"), address.to_string()));
        self.0.push((format!("{{{name}_host}}"), address.host().to_owned()));
        self.0.push((format!("{{{name}_port}}"), address.port().to_string()));
        self
    }

    fn number(mut self, name: &str, number: u128) -> Self {
        self.0.push((format!("{{{name}}}"), number.to_string()));
        self
    }

    fn fill(&self, command: &[String]) -> Vec<String> {
        let fill = |argument: &String| {
            self.0.iter().fold(argument.clone(), |filled, (word, value)| filled.replace(word, value))
        };
        command.iter().map(fill).collect()
    }
}

pub struct ExecDriver {
    peers: Arc<Peers>,
    commands: Commands,
}

impl ExecDriver {
    #[must_use]
    pub const fn new(peers: Arc<Peers>, commands: Commands) -> Self {
        Self { peers, commands }
    }

    fn own(&self) -> Result<StoreAddress, DriverError> {
        self.peers.own_store().ok_or_else(|| DriverError::Failed("this node has no store".to_owned()))
    }

    async fn ask<T: DeserializeOwned>(&self, command: &[String], words: &Words) -> Result<T, DriverError> {
        let command = words.fill(command);
        said(&command, &run::run(&command, self.commands.time_max, &Unasked).await?)
    }
}

#[async_trait]
impl Driver for ExecDriver {
    async fn see(&self) -> Result<Seen, DriverError> {
        self.see_at(&self.own()?).await
    }

    async fn see_at(&self, store: &StoreAddress) -> Result<Seen, DriverError> {
        let said: SeenSaid = self.ask(&self.commands.see, &Words::default().address("store", store)).await?;
        let follows = said.follows.as_deref().map(str::parse).transpose();
        let follows = follows.map_err(|error| DriverError::Failed(format!("`follows`: {error}")))?;
        let SeenSaid { store, version, master, linked, offset, history, loading, unwritten, run, .. } = said;
        Ok(Seen { store, version, master, linked, follows, offset, history, loading, unwritten, run })
    }

    async fn follow(&self, master: &StoreAddress) -> Result<Option<Demoted>, DriverError> {
        let demoted = self.see().await?.master.then_some(Demoted { writes: None });
        let words = Words::default().address("store", &self.own()?).address("master", master);
        self.ask::<Done>(&self.commands.follow, &words).await?.check()?;
        Ok(demoted)
    }

    async fn switch(
        &self,
        switch: &Switch,
        still_wanted: &(dyn StillWanted + '_),
    ) -> Result<(), DriverError> {
        // A command need not ask.
        if !still_wanted.still_wanted().await {
            return Err(DriverError::NotYet("the role is not to be given away any more".to_owned()));
        }
        let words = Words::default()
            .address("store", &self.own()?)
            .address("to", &switch.to)
            .address("dial", &switch.dial)
            .number("pause_ms", switch.pause_time_max.as_millis());
        let command = words.fill(&self.commands.switch);
        let time_max = self.commands.time_max.saturating_add(switch.pause_time_max);
        said::<Done>(&command, &run::run(&command, time_max, still_wanted).await?)?.check()
    }

    async fn compare(&self, master: &StoreAddress, keys: usize) -> Result<Vec<String>, DriverError> {
        let words = Words::default().address("store", &self.own()?).address("master", master);
        let words = words.number("keys", keys as u128);
        Ok(self.ask::<Compared>(&self.commands.compare, &words).await?.differ)
    }
}

/// What commands print, but for that any of them may say that it is too early.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotYet {
    not_yet: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenSaid {
    store: String,
    version: String,
    master: bool,
    #[serde(default)]
    linked: bool,
    follows: Option<String>,
    offset: u64,
    history: String,
    #[serde(default)]
    loading: bool,
    #[serde(default)]
    unwritten: bool,
    run: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    done: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compared {
    differ: Vec<String>,
}

impl Done {
    fn check(&self) -> Result<(), DriverError> {
        if self.done {
            Ok(())
        } else {
            Err(DriverError::Failed("the command says that it failed".to_owned()))
        }
    }
}

fn said<T: DeserializeOwned>(command: &[String], text: &str) -> Result<T, DriverError> {
    if let Ok(NotYet { not_yet }) = serde_json::from_str(text) {
        return Err(DriverError::NotYet(not_yet));
    }
    serde_json::from_str(text).map_err(|error| {
        let program = command.first().map(String::as_str).unwrap_or_default();
        DriverError::Failed(format!("{program} printed what can't be read: {error}"))
    })
}

/// A command that asks though nothing is given away is told no.
struct Unasked;

#[async_trait]
impl StillWanted for Unasked {
    async fn still_wanted(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn words_are_filled_in() {
        let to = "[::1]:6402".parse().unwrap();
        let words = Words::default().address("to", &to).number("pause_ms", 5);
        let command = ["a{to}b", "{to_host} {to_port}", "{pause_ms}", "{ own }", "${HOME}"];
        let filled = words.fill(&command.map(str::to_owned));
        assert_eq!(filled, ["a[::1]:6402b", "::1 6402", "5", "{ own }", "${HOME}"]);
    }

    #[test]
    fn too_early_is_told_from_done_and_from_nonsense() {
        let done = |text: &str| said::<Done>(&shell("x"), text).and_then(|done| done.check());
        assert_eq!(done("{\"done\": true}\n"), Ok(()));
        assert_eq!(done("{\"not_yet\":\"it lags\"}"), Err(DriverError::NotYet("it lags".to_owned())));
        for text in ["", "{}", "done", "{\"done\":false}", "{\"done\":true,\"more\":1}"] {
            assert!(matches!(done(text), Err(DriverError::Failed(_))), "{text}");
        }
    }
}
