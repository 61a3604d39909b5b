//! The README's table of rules is the translator's own.

use std::{fs, path::Path};

use segue_redis::rules::table::RULES;

const START: &str = "kept equal by the same test -->\n";
const END: &str = "<!-- /rules -->";

/// Run with `SEGUE_WRITE_README=1` to write the table.
#[test]
fn readme_lists_every_rule() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let start = text.find(START).unwrap() + START.len();
    let end = text.find(END).unwrap();
    let table = table();
    if std::env::var_os("SEGUE_WRITE_README").is_some() {
        fs::write(&file, [&text[..start], &table, &text[end..]].concat()).unwrap();
    } else {
        let how = "SEGUE_WRITE_README=1 cargo test --test direct readme";
        assert_eq!(&text[start..end], table, "the table of README.md is not the rules': run `{how}`");
    }
}

fn table() -> String {
    let mut table = "\n| form | understood from | said to older ones |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        let (form, instead) = (rule.form.replace('|', "\\|"), rule.instead.replace('|', "\\|"));
        let since = rule.since_text();
        table += &format!("| `{form}` | {since} | {instead} |\n");
    }
    table + "\n"
}
