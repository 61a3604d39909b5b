//! Hooks that do something else than they should: the node is taken back, and the operator reads why.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::lab::{Lab, Plan};

struct Wrong {
    hook: &'static str,
    /// What it does to `redis-8.0` alone: the way back is as it should be.
    lines: &'static str,
    why: &'static [&'static str],
}

const WRONG: [Wrong; 4] = [
    Wrong {
        hook: "install",
        lines: "case $4 in redis-8*) printf '%s\\n' 'reading lists' 'E: redis-8.0 is held' >&2; exit 7 ;; esac",
        why: &["install of n2 failed: sh ended with exit status: 7: E: redis-8.0 is held"],
    },
    Wrong {
        hook: "install",
        lines: "case $4 in redis-8*) echo 'it is the newest already'; exit 0 ;; esac",
        why: &[
            "start of n2 failed: the store is redis-6.0",
            " and not redis-8.0: see the install and start hooks",
        ],
    },
    Wrong {
        hook: "install",
        lines: "case $4 in redis-8*) set -- \"$1\" \"$2\" \"$3\" redis-7.0 \"$5\" ;; esac",
        why: &[
            "start of n2 failed: the store is redis-7.0",
            " and not redis-8.0: see the install and start hooks",
        ],
    },
    Wrong {
        hook: "start",
        lines: "case $4 in redis-8*) set -- \"$1\" \"$2\" \"$3\" \"$4\" \"$5\" ;; esac",
        why: &[
            "start of n2 failed: the start hook started the store as a master beside n1: it follows it now",
        ],
    },
];

#[test]
fn a_wrong_hook_is_told_and_the_node_taken_back() -> Result<()> {
    let plan = Plan { upgrade: "attempts_max = 1", ..Plan::new("redis-6.0", "redis-8.0") };
    let lab = Lab::start(&plan)?;
    lab.add_program(1, "redis-7.0")?;
    for (turn, wrong) in WRONG.iter().enumerate() {
        lab.meddle(1, wrong.hook, wrong.lines)?;
        if turn == 0 {
            lab.begin(0, "redis-8.0")?;
        } else {
            lab.told(0, &["resume"])?;
        }
        let status = lab.await_status("n2 taken back", |status| {
            let transaction = &status["transaction"];
            transaction["paused"]["node"] == "n2" && transaction["pending"] == json!([])
        })?;
        let paused = &status["transaction"]["paused"];
        let why = paused["why"].as_str().context("no reason")?;
        ensure!(paused["cause"] == "taken-back", "{status:#}");
        ensure!(wrong.why.iter().all(|part| why.contains(part)), "{why}");
        let explained = lab.told(1, &["explain"])?;
        ensure!(
            explained.contains(why) && explained.contains("the node is taken back; mend it"),
            "{explained}"
        );
        ensure!(lab.version(1)?.starts_with("6.0.") && lab.await_in_sync()? == 0, "{status:#}");
        lab.meddle(1, wrong.hook, "")?;
    }
    let journal = lab.status(1)?["journal"].to_string();
    ensure!(journal.contains("reading lists") && journal.contains("it is the newest already"), "{journal}");
    lab.told(2, &["resume"])?;
    lab.await_upgraded("n2")?;
    ensure!(lab.version(1)?.starts_with("8.0."));
    Ok(())
}
