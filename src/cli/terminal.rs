//! What a terminal can show.

use std::ffi::OsStr;

/// By the environment; whether it is a terminal at all, whoever writes to it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// More than line after line.
    pub draws: bool,
    pub colors: bool,
}

impl Terminal {
    /// By `TERM` (unset or `dumb`) and `NO_COLOR` (<https://no-color.org>).
    #[must_use]
    pub fn of(term: Option<&OsStr>, no_color: Option<&OsStr>) -> Self {
        let draws = term.is_some_and(|term| term != "dumb");
        Self { draws, colors: draws && no_color.is_none_or(OsStr::is_empty) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_a_terminal_can_show() {
        for (term, no_color, draws, colors) in [
            (Some("xterm"), None, true, true),
            (Some("xterm"), Some(""), true, true),
            (Some("xterm"), Some("1"), true, false),
            (Some("dumb"), None, false, false),
            (None, None, false, false),
        ] {
            let terminal = Terminal::of(term.map(OsStr::new), no_color.map(OsStr::new));
            assert_eq!(terminal, Terminal { draws, colors }, "{term:?} {no_color:?}");
        }
    }
}
