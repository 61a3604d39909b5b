//! The floors of the house: who may import whom, and what a translator must not touch.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules of the root package, from the lowest floor up; those of one floor may know each other.
const FLOORS: &[(u8, &[&str])] = &[
    (2, &["config", "durable", "losses", "seldom", "status", "streams", "tls"]),
    (3, &["intercept", "net", "peers", "stores"]),
    (4, &["cluster", "relay"]),
    (5, &["upgrade"]),
    (6, &["hands"]),
    (7, &["admin"]),
    (8, &["cli", "registry", "sidecar", "main", "lib"]),
];

fn floor(module: &str) -> u8 {
    let found = FLOORS.iter().find(|(_, modules)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} stands on no floor: add it to tests/floors.rs")).0
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    assert!(!found.is_empty(), "{} holds no sources", folder.display());
    found
}

/// `crate::x` anywhere in the text; inside `use crate::{…}`, the first word of each part.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut part = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 1 => break,
                        '}' => depth -= 1,
                        ',' if depth == 1 => part = true,
                        c if part && depth == 1 && !c.is_whitespace() => {
                            found.push(word(&list[at..]));
                            part = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::config;\nuse crate::{\n    net,\n    peers::{Known, Peers},\n    relay,\n};\nlet x = crate::cli::y();";
    assert_eq!(imports(text), ["config", "net", "peers", "relay", "cli"]);
}

#[test]
fn every_module_imports_only_from_its_floor_or_below() {
    let src = root().join("src");
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        for imported in imports(&fs::read_to_string(&file).unwrap()) {
            assert!(
                floor(&imported) <= floor(module),
                "{} imports crate::{imported} from a higher floor",
                relative.display()
            );
        }
    }
}

#[test]
fn only_the_registry_and_the_commands_name_a_translator() {
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let allowed = ["registry.rs", "cli"].iter().any(|part| file.iter().any(|name| name == *part));
        let is_test = file.iter().any(|name| name.to_str().is_some_and(|name| name.starts_with("tests")));
        assert!(
            allowed
                || is_test
                || !["segue_redis", "segue_passthrough"].iter().any(|name| code.contains(name)),
            "{} names a translator",
            file.display()
        );
    }
}

/// They must replay exactly: no IO, no clock, no environment, no randomness.
#[test]
fn translators_touch_nothing_outside() {
    for crate_name in ["wire", "redis", "passthrough"] {
        let folder = root().join("translators").join(crate_name);
        for file in sources(&folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for outside in [
                "std::env",
                "std::fs",
                "std::io",
                "std::net",
                "std::process",
                "std::thread",
                "std::time",
                "tokio",
            ] {
                assert!(!text.contains(outside), "{} touches {outside}", file.display());
            }
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for line in dependencies.lines().filter(|line| !line.is_empty()) {
            let name = line.split(['.', ' ']).next().unwrap();
            let allowed = ["bytes", "crc-fast", "segue-wire", "thiserror"];
            assert!(allowed.contains(&name), "{crate_name} depends on {name}");
        }
    }
}

/// What one coordinator decides must be what any other would have decided, and a simulation must replay it.
#[test]
fn the_plan_of_an_upgrade_touches_nothing_outside() {
    for file in sources(&root().join("src/upgrade")) {
        let text = fs::read_to_string(&file).unwrap();
        for outside in
            ["Instant", "SystemTime", "HashMap", "HashSet", "std::env", "std::fs", "std::net", "tokio"]
        {
            assert!(!text.contains(outside), "{} touches {outside}", file.display());
        }
    }
}
