use std::{collections::BTreeMap, fmt};

use segue_wire::{Grade, Loss};

/// How many of each kind are named.
const NAMED_MAX: usize = 3;

/// Losses by kind, with the first few of each by name. Bounded by the number of kinds.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, Kind>);

#[derive(Debug)]
struct Kind {
    grade: Grade,
    count: u64,
    /// Keys; of what has no key, what it is.
    names: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, loss: &Loss) {
        let kind = self.0.entry(loss.kind).or_insert(Kind { grade: loss.grade, count: 0, names: Vec::new() });
        kind.count = kind.count.saturating_add(1);
        if kind.names.len() < NAMED_MAX {
            let name = match loss.key_text() {
                Some(key) => format!("\"{key}\" in database {}", loss.db),
                None => loss.what.clone(),
            };
            if !kind.names.contains(&name) {
                kind.names.push(name);
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "nothing was left out");
        }
        writeln!(f, "left out:")?;
        for (name, Kind { grade, count, names }) in &self.0 {
            let more = if *count > names.len() as u64 { ", …" } else { "" };
            writeln!(f, "  {count} × {name} ({}): {}{more}", grade.label(), names.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(kind: &'static str, key: Option<&str>) -> Loss {
        let key = key.map(|key| key.as_bytes().to_vec());
        Loss { kind, grade: Grade::Data, what: "a field".to_owned(), key, db: 1 }
    }

    #[test]
    fn kinds_are_counted_with_their_first_names() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "nothing was left out\n");
        for key in ["a", "a", "b", "c\n", "d"] {
            tally.add(&loss("hash-field-ttl", Some(key)));
        }
        tally.add(&loss("vector-set", Some("v")));
        tally.add(&Loss { grade: Grade::Bookkeeping, ..loss("aux", None) });
        assert_eq!(
            tally.to_string(),
            "left out:\n  1 × aux (bookkeeping): a field\n  \
             5 × hash-field-ttl (data): \"a\" in database 1, \"b\" in database 1, \"c\\n\" in database 1, …\n  \
             1 × vector-set (data): \"v\" in database 1\n"
        );
    }
}
