//! Is this node fit to be upgraded? Before anything is touched.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    Hands, is_release,
    perform::{Ground, Stopped},
};
use crate::config::{
    ReleaseSetting, StoreAddress,
    hook::{Hook, Placeholder, Word},
};

/// Tries to see the store before it counts as silent.
const SEE_TRIES: u32 = 3;

impl Hands {
    pub(super) async fn preflight(&self, ground: &Ground) -> Result<(), Stopped> {
        let failed = |why: String| Err(Stopped::Failed(why));
        for (key, hook) in ground.upgrade.hooks.all() {
            if let Err(why) = self.can_run(hook) {
                return failed(format!("the {key} hook can't run: {why}"));
            }
        }
        if let Some(why) = self.full_disk(&ground.upgrade) {
            return failed(why);
        }
        if let ReleaseSetting::Fixed(release) = &self.config().node.release {
            return failed(format!(
                "[node] release = \"{release}\" stays whatever the store is: set it to \"auto\", and reload"
            ));
        }
        let Some(master) = ground.transaction.fleet.master() else {
            return failed("there is no single master among the nodes".to_owned());
        };
        if *master != self.node && self.dial(master).is_none() {
            return failed(format!("the config of {} names no [[peer]] {master}", self.node));
        }
        let mut tries = 1;
        let seen = loop {
            match ground.driver.see().await {
                Ok(seen) => break seen,
                Err(error) if tries >= SEE_TRIES => {
                    return failed(format!("the store does not answer: {error}"));
                }
                Err(_) => tries += 1,
            }
            tokio::time::sleep(super::PERIOD).await;
        };
        ground.driver.suits().await?;
        let from = &ground.transaction.from;
        match self.release_of(&seen) {
            Some(release) if is_release(&release, from) => {}
            release => {
                let found = release.map_or(seen.version.clone(), |release| release.to_string());
                return failed(format!("the store is {found}, and the upgrade begins from {from}"));
            }
        }
        if seen.master != (*master == self.node) {
            let (is, agreed) = if seen.master { ("master", "secondary") } else { ("secondary", "master") };
            return failed(format!("the store is {is}, and was seen as {agreed} when the upgrade began"));
        }
        Ok(())
    }

    /// A program that comes with the release need not be there yet.
    fn can_run(&self, hook: &Hook) -> Result<(), String> {
        let program = hook.program();
        if program.placeholders().any(Placeholder::is_release) {
            return Ok(());
        }
        let name = self.plain(program);
        if name.contains('/') {
            return is_program(Path::new(&name));
        }
        let folders = self.search_path.as_ref().map(|path| env::split_paths(path).collect::<Vec<PathBuf>>());
        let mut folders = folders.unwrap_or_default().into_iter();
        if folders.any(|folder| is_program(&folder.join(&name)).is_ok()) {
            Ok(())
        } else {
            Err(format!("no program {name} is found; give its whole path"))
        }
    }

    /// What does not depend on the transaction is filled in.
    fn plain(&self, word: &Word) -> String {
        let store = self.config().node.store.clone();
        let store = |of: fn(&StoreAddress) -> String| store.as_ref().map_or_else(String::new, of);
        word.filled(|placeholder| match placeholder {
            Placeholder::Node => self.node.to_string(),
            Placeholder::Store => store(ToString::to_string),
            Placeholder::StoreHost => store(|store| store.host().to_owned()),
            Placeholder::StorePort => store(|store| store.port().to_string()),
            _ => String::new(),
        })
    }
}

fn is_program(path: &Path) -> Result<(), String> {
    let meta = path.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
    if !meta.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    Ok(())
}
