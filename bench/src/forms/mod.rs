//! Every form of every write command: what a client asks of a master, and so what the master sends its
//! replicas.
//!
//! The forms stand in the text files beside this one, a line each: `name | set-up | command`. Steps are parted
//! by ` ; `, words by blanks; a word in double quotes keeps its blanks, and `\n` in it is a line end. In a word,
//!
//! - `@` at its start is the form's own key, `f:<name>:`; `@1` is that with a `1` behind it;
//! - `dump(@)` is what DUMP answers for that key, `functions()` what FUNCTION DUMP answers.
//!
//! A step that starts with `&` runs beside the next ones, once it blocks; `& join` waits for it. `~ 30` waits for
//! 30 ms, `gone COMMAND …` until the command answers 0 or nil.

mod step;

use anyhow::{Context, Result, ensure};

use crate::client;
use step::{Runner, Step};

/// One form of a write command.
#[derive(Debug)]
pub struct Form {
    pub name: &'static str,
    steps: Vec<Step>,
}

/// Whether the master has the form.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// What it answered.
    No(String),
}

/// The first one empties the store.
const FILES: [&str; 8] = [
    include_str!("whole.txt"),
    include_str!("strings.txt"),
    include_str!("keys.txt"),
    include_str!("collections.txt"),
    include_str!("hashes.txt"),
    include_str!("sorted_sets.txt"),
    include_str!("streams.txt"),
    include_str!("newer.txt"),
];

/// All forms, in the order in which they have to run.
///
/// # Errors
/// A line of the files is no form.
pub fn all() -> Result<Vec<Form>> {
    let lines = FILES.iter().flat_map(|file| file.lines());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(Form::parse).collect()
}

impl Form {
    /// The form that a key belongs to.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<&str> {
        let name = key.strip_prefix(b"f:")?.split(|&byte| byte == b':').next()?;
        std::str::from_utf8(name).ok()
    }

    /// Runs it on the store on this loopback port.
    ///
    /// # Errors
    /// The store does not answer. An answer that refuses the form is no error.
    pub fn run(&self, port: u16) -> Result<Taken> {
        let mut runner = Runner::new(client::connect(port)?, port);
        for step in &self.steps {
            if let Some(refused) = runner.run(step).with_context(|| format!("form {}", self.name))? {
                return Ok(Taken::No(refused));
            }
        }
        Ok(Taken::Yes)
    }

    fn parse(line: &'static str) -> Result<Self> {
        let parts: Vec<&'static str> = line.splitn(3, '|').map(str::trim).collect();
        let &[name, set_up, command] = parts.as_slice() else { anyhow::bail!("no form: `{line}`") };
        ensure!(!command.is_empty(), "form {name} has no command");
        let steps = [set_up, command].into_iter().filter(|steps| !steps.is_empty());
        let steps = steps.flat_map(|steps| steps.split(" ; ")).map(|step| Step::parse(step, name));
        Ok(Self { name, steps: steps.collect::<Result<_>>().with_context(|| format!("form {name}"))? })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_is_a_form_of_its_own() {
        let forms = all().unwrap();
        let names: HashSet<_> = forms.iter().map(|form| form.name).collect();
        assert_eq!(names.len(), forms.len());
        assert!(forms.len() >= 207, "{} forms", forms.len());
    }

    #[test]
    fn a_key_tells_its_form() {
        assert_eq!(Form::of_key(b"f:set_ex:1"), Some("set_ex"));
        assert_eq!(Form::of_key(b"other"), None);
    }
}
