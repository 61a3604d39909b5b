//! The README's tables of pairs and of rules are the translator's own.

use std::{fs, path::Path};

use segue::{
    cli::verdicts::{Row, rows},
    registry,
};
use segue_redis::rules::table::RULES;

#[test]
fn readme_lists_every_rule() {
    keep_equal("rules", &rules());
}

#[test]
fn readme_lists_every_pair() {
    keep_equal("pairs", &pairs());
}

/// Run with `SEGUE_WRITE_README=1` and in one thread to write the tables.
fn keep_equal(name: &str, table: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let start = text.find(&format!("<!-- {name}: ")).unwrap();
    let start = start + text[start..].find("-->\n").unwrap() + "-->\n".len();
    let end = text.find(&format!("<!-- /{name} -->")).unwrap();
    if std::env::var_os("SEGUE_WRITE_README").is_some() {
        fs::write(&file, [&text[..start], table, &text[end..]].concat()).unwrap();
    } else {
        let how = "SEGUE_WRITE_README=1 cargo test --test direct readme -- --test-threads 1";
        assert_eq!(&text[start..end], table, "the table of {name} in README.md is another: run `{how}`");
    }
}

fn rules() -> String {
    let head = "\n| form | understood from | said to others | may be lost |\n|---|---|---|---|\n";
    let mut table = head.to_owned();
    for rule in RULES {
        let (form, instead) = (rule.form.replace('|', "\\|"), rule.instead.replace('|', "\\|"));
        let since = rule.since_text();
        let losses: Vec<_> = rule.losses.iter().map(|kind| format!("`{kind}`")).collect();
        table += &format!("| `{form}` | {since} | {instead} | {} |\n", losses.join(", "));
    }
    table + "\n"
}

fn pairs() -> String {
    let redis = registry::protocol("redis").unwrap();
    let rows = rows(&*redis, None, None);
    // A verdict that no pair has needs no column.
    let columns: Vec<_> =
        (0..4).filter(|&column| rows.iter().any(|row| !row.to[column].is_empty())).collect();
    let [from, verdicts @ ..] = Row::HEADERS;
    let line = |first: &str, cells: [&str; 4]| {
        let cells: String = columns.iter().map(|&column| format!(" {} |", cells[column])).collect();
        format!("| {first} |{cells}\n")
    };
    let mut table = "\n".to_owned() + &line(from, verdicts) + &line("---", ["---"; 4]);
    for row in &rows {
        table += &line(&row.from.to_string(), row.to.each_ref().map(String::as_str));
    }
    table + "\n"
}
