//! One overall progress bar on a terminal, plain lines elsewhere.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far a run of many steps is. Cheap to share between threads by reference.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Quiet,
    Bar(ProgressBar),
    Lines { prefix: &'static str },
}

impl Progress {
    /// A bar when stderr is a terminal, else a line a step, each beginning with `prefix`.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        if bar.is_hidden() {
            return Self { kind: Kind::Lines { prefix } };
        }
        let template = format!("{prefix} {{bar:30}} {{pos}}/{{len}} {{elapsed}} {{wide_msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self { kind: Kind::Bar(bar) }
    }

    #[must_use]
    pub const fn quiet() -> Self {
        Self { kind: Kind::Quiet }
    }

    /// Adds steps to the whole.
    pub fn expect(&self, steps: u64) {
        if let Kind::Bar(bar) = &self.kind {
            bar.inc_length(steps);
        }
    }

    /// Says what is being done now.
    pub fn step<'a>(&self, what: impl Into<Cow<'a, str>>) {
        let what = what.into();
        match &self.kind {
            Kind::Quiet => {}
            Kind::Bar(bar) => bar.set_message(what.into_owned()),
            Kind::Lines { prefix } => eprintln!("{prefix}: {what}"),
        }
    }

    /// Counts steps as done.
    pub fn advance(&self, steps: u64) {
        if let Kind::Bar(bar) = &self.kind {
            bar.inc(steps);
        }
    }

    /// Leaves a line behind that stays on the screen.
    pub fn note(&self, text: &str) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Bar(bar) => bar.println(text),
            Kind::Lines { prefix } => eprintln!("{prefix}: {text}"),
        }
    }

    pub fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}
