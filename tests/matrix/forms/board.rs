//! What came out, master by master and replica by replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Result, ensure};
use segue_bench::{forms::Form, server::Server};

/// One master's forms on one replica.
#[derive(Debug, Default)]
pub struct Cell {
    pub equal: usize,
    /// Different, and named as a loss.
    pub declared: BTreeSet<String>,
    /// Different, and without Segue as well.
    pub upstream: BTreeSet<String>,
    /// Different, and nobody said so.
    pub differing: Vec<String>,
    /// What the replica's log says it rejected.
    pub rejected: Vec<String>,
}

pub struct Board {
    replicas: Vec<String>,
    rows: Vec<(String, usize, Vec<Cell>)>,
    /// What the masters answered to forms that they don't have.
    refused: BTreeMap<&'static str, Vec<String>>,
}

impl Board {
    pub fn new(replicas: &[Server]) -> Self {
        let replicas = replicas.iter().map(|replica| replica.store().name()).collect();
        Self { replicas, rows: Vec::new(), refused: BTreeMap::new() }
    }

    pub fn refused(&mut self, form: &'static str, answer: String) {
        self.refused.entry(form).or_default().push(answer);
    }

    pub fn add(&mut self, master: &str, forms: usize, cells: Vec<Cell>) {
        self.rows.push((master.to_owned(), forms, cells));
    }

    /// Fails for whatever nobody declared, and for a form that no master took: it would be misspelt.
    pub fn verdict(&self, forms: &[Form], stores: usize) -> Result<()> {
        let mut wrong = Vec::new();
        for (master, _, cells) in &self.rows {
            // The replicas by what is wrong, which is often the same for many.
            let mut found: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
            for (replica, cell) in self.replicas.iter().zip(cells) {
                for what in cell.differing.iter().chain(&cell.rejected) {
                    found.entry(what).or_default().push(replica);
                }
            }
            let found = found.into_iter();
            wrong.extend(found.map(|(what, on)| format!("{master} > {}: {what}", on.join(", "))));
        }
        for form in forms.iter().filter(|_| self.rows.len() == stores) {
            let refused = self.refused.get(form.name).filter(|refused| refused.len() == self.rows.len());
            wrong.extend(refused.map(|refused| format!("no master takes {}: {refused:?}", form.name)));
        }
        ensure!(wrong.is_empty(), "{} undeclared:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }
}

/// Equal forms; `-` declared losses, `~` the same without Segue, `!` undeclared.
impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MASTER_WIDTH: usize = 14;
        const CELL_WIDTH: usize = 14;
        write!(f, "{:MASTER_WIDTH$} forms", "master")?;
        for replica in &self.replicas {
            write!(f, " {replica:>CELL_WIDTH$}")?;
        }
        for (master, forms, cells) in &self.rows {
            write!(f, "\n{master:MASTER_WIDTH$} {forms:5}")?;
            for cell in cells {
                write!(f, " {:>CELL_WIDTH$}", cell.to_string())?;
            }
        }
        let cells = || self.rows.iter().flat_map(|(_, _, cells)| cells);
        let names = |named: fn(&Cell) -> &BTreeSet<String>| {
            let names: BTreeSet<_> = cells().flat_map(named).map(String::as_str).collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        };
        write!(f, "\n- named losses: {}", names(|cell| &cell.declared))?;
        write!(f, "\n~ the same without Segue: {}", names(|cell| &cell.upstream))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.equal)?;
        let undeclared = self.differing.len().saturating_add(self.rejected.len());
        for (mark, count) in [('-', self.declared.len()), ('~', self.upstream.len()), ('!', undeclared)] {
            if count > 0 {
                write!(f, " {mark}{count}")?;
            }
        }
        Ok(())
    }
}
