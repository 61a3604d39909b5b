//! What was measured: rounds of samples, their paired ratios, and the goals they stand against.

use std::collections::BTreeMap;
use std::fmt;

use segue_bench::peers::proxy::Rival;
use serde_json::{Value, json};

/// One number that a measure gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample(pub Metric, pub f64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    BulkGbPerS,
    BulkCpuSPerGb,
    PingP50Us,
    PingP99Us,
    GetP1PerS,
    GetP64PerS,
    SetUpPerS,
    BusyPerS,
    BusyLinkBytes,
    IdleLinkBytes,
    RdbGbPerS,
    SyncCompressedS,
    SyncPlainS,
    StreamPerS,
}

impl Metric {
    pub const ALL: [Self; 14] = [
        Self::BulkGbPerS,
        Self::BulkCpuSPerGb,
        Self::PingP50Us,
        Self::PingP99Us,
        Self::GetP1PerS,
        Self::GetP64PerS,
        Self::SetUpPerS,
        Self::BusyPerS,
        Self::BusyLinkBytes,
        Self::IdleLinkBytes,
        Self::RdbGbPerS,
        Self::SyncCompressedS,
        Self::SyncPlainS,
        Self::StreamPerS,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Self::BulkGbPerS => "bulk, GB/s",
            Self::BulkCpuSPerGb => "bulk, CPU s/GB",
            Self::PingP50Us => "ping 64 B p50, us",
            Self::PingP99Us => "ping 64 B p99, us",
            Self::GetP1PerS => "GET P1, 1/s",
            Self::GetP64PerS => "GET P64, 1/s",
            Self::SetUpPerS => "connections set up, 1/s",
            Self::BusyPerS => "GET P1 of 1000 clients, 1/s",
            Self::BusyLinkBytes => "busy connection, bytes",
            Self::IdleLinkBytes => "idle connection, bytes",
            Self::RdbGbPerS => "RDB translated on one core, GB/s",
            Self::SyncCompressedS => "full sync, compressed, s",
            Self::SyncPlainS => "full sync, uncompressed, s",
            Self::StreamPerS => "translated commands P64, 1/s",
        }
    }

    /// What `performance.md` asks for.
    pub const fn goal(self) -> Option<Goal> {
        let (against, bound, limit) = match self {
            Self::BulkGbPerS | Self::GetP1PerS | Self::GetP64PerS => (HAPROXY, Bound::Least, 1.0),
            Self::BulkCpuSPerGb | Self::PingP99Us => (HAPROXY, Bound::Most, 1.0),
            Self::SetUpPerS => (HAPROXY, Bound::Least, 0.95),
            Self::IdleLinkBytes => (Against::Nothing, Bound::Most, 4096.0),
            Self::RdbGbPerS => (Against::Nothing, Bound::Least, 0.8),
            Self::SyncCompressedS => (Against::Untranslated, Bound::Most, 1.1),
            Self::SyncPlainS => (Against::Untranslated, Bound::Most, 1.2),
            Self::StreamPerS => (Against::Recorded(570e3, "shotover"), Bound::Least, 2.5),
            Self::PingP50Us | Self::BusyPerS | Self::BusyLinkBytes => return None,
        };
        Some(Goal { against, bound, limit })
    }
}

const HAPROXY: Against = Against::Subject(Subject::Rival(Rival::Haproxy));

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Rival(Rival),
    /// Through Segue, between releases that need no translation.
    Untranslated,
    Translated,
}

impl Subject {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rival(rival) => rival.label(),
            Self::Untranslated => "untranslated",
            Self::Translated => "translated",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub against: Against,
    pub bound: Bound,
    pub limit: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum Against {
    /// The number itself is the goal's.
    Nothing,
    Subject(Subject),
    Untranslated,
    /// A number measured elsewhere, once: only its order of size is of use.
    Recorded(f64, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub enum Bound {
    Least,
    Most,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.bound {
            Bound::Least => "at least",
            Bound::Most => "at most",
        };
        write!(f, "{sign} {}", self.limit)
    }
}

/// A goal and how near it Segue came.
#[derive(Clone, Debug)]
pub struct Score {
    pub metric: Metric,
    pub goal: Goal,
    pub against: &'static str,
    /// The median of the rounds' ratios; without a rival, of the rounds' numbers.
    pub value: f64,
}

impl Score {
    pub fn is_met(&self) -> bool {
        match self.goal.bound {
            Bound::Least => self.value >= self.goal.limit,
            Bound::Most => self.value <= self.goal.limit,
        }
    }
}

#[derive(Debug, Default)]
pub struct Results {
    /// By round.
    samples: BTreeMap<(Metric, Subject), BTreeMap<u32, f64>>,
}

impl Results {
    pub fn add(&mut self, round: u32, subject: Subject, samples: Vec<Sample>) {
        for Sample(metric, value) in samples {
            self.samples.entry((metric, subject)).or_default().insert(round, value);
        }
    }

    pub fn median(&self, metric: Metric, subject: Subject) -> Option<f64> {
        median(self.samples.get(&(metric, subject))?.values().copied().collect())
    }

    /// The median of the ratios of two subjects within a round: what drifts, drifts for both.
    pub fn ratio(&self, metric: Metric, subject: Subject, against: Subject) -> Option<f64> {
        let against = self.samples.get(&(metric, against))?;
        let own = self.samples.get(&(metric, subject))?;
        median(own.iter().filter_map(|(round, value)| Some(value / against.get(round)?)).collect())
    }

    /// The metrics that have a goal and were measured.
    pub fn scores(&self) -> Vec<Score> {
        Metric::ALL.into_iter().filter_map(|metric| self.score(metric)).collect()
    }

    fn score(&self, metric: Metric) -> Option<Score> {
        let goal = metric.goal()?;
        let segue = Subject::Rival(Rival::Segue);
        let own = || self.median(metric, segue).or_else(|| self.median(metric, Subject::Translated));
        let (against, value) = match goal.against {
            Against::Nothing => ("", own()?),
            Against::Subject(rival) => (rival.label(), self.ratio(metric, segue, rival)?),
            Against::Untranslated => {
                let value = self.ratio(metric, Subject::Translated, Subject::Untranslated)?;
                (Subject::Untranslated.label(), value)
            }
            Against::Recorded(number, name) => (name, own()? / number),
        };
        Some(Score { metric, goal, against, value })
    }

    pub fn table(&self) -> String {
        let mut text = String::from("medians over the rounds\n");
        for metric in Metric::ALL {
            let subjects = self.samples.keys().filter(|(measured, _)| *measured == metric);
            let cells: Vec<String> = subjects
                .filter_map(|(_, subject)| {
                    let value = self.median(metric, *subject)?;
                    Some(format!("{} {}", subject.label(), number(value)))
                })
                .collect();
            if !cells.is_empty() {
                text += &format!("  {:<34} {}\n", metric.label(), cells.join("   "));
            }
        }
        text += "\ngoals (medians of the rounds' ratios)\n";
        for score in self.scores() {
            let name = if score.against.is_empty() {
                score.metric.label().to_owned()
            } else {
                format!("{} / {}", score.metric.label(), score.against)
            };
            let verdict = if score.is_met() { "met" } else { "NOT met" };
            let goal = score.goal.to_string();
            text += &format!("  {name:<48} {:>8}   {goal:<14} {verdict}\n", number(score.value));
        }
        text
    }

    pub fn json(&self) -> Value {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|((metric, subject), rounds)| {
                let values: Vec<f64> = rounds.values().copied().collect();
                json!({ "metric": metric.label(), "subject": subject.label(), "rounds": values })
            })
            .collect();
        let goals: Vec<Value> = self
            .scores()
            .iter()
            .map(|score| {
                json!({ "metric": score.metric.label(), "against": score.against, "value": score.value,
                        "goal": score.goal.to_string(), "met": score.is_met() })
            })
            .collect();
        json!({ "samples": samples, "goals": goals })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let is_even = values.len().is_multiple_of(2);
    Some(if is_even { f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper) } else { upper })
}

/// Three digits that tell, thousands as they are.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGUE: Subject = Subject::Rival(Rival::Segue);
    const HAPROXY: Subject = Subject::Rival(Rival::Haproxy);

    #[test]
    fn ratios_are_paired_within_a_round() {
        let mut results = Results::default();
        // The machine slows down threefold; Segue is twice as fast in each round.
        for (round, speed) in [(1, 3.0), (2, 2.0), (3, 1.0)] {
            results.add(round, HAPROXY, vec![Sample(Metric::BulkGbPerS, speed)]);
            results.add(round, SEGUE, vec![Sample(Metric::BulkGbPerS, speed * 2.0)]);
        }
        assert_eq!(results.ratio(Metric::BulkGbPerS, SEGUE, HAPROXY), Some(2.0));
        assert_eq!(results.median(Metric::BulkGbPerS, SEGUE), Some(4.0));
        let scores = results.scores();
        assert_eq!((scores.len(), scores[0].is_met()), (1, true));
    }

    #[test]
    fn a_goal_missed_is_said() {
        let mut results = Results::default();
        results.add(1, HAPROXY, vec![Sample(Metric::PingP99Us, 10.0)]);
        results.add(1, SEGUE, vec![Sample(Metric::PingP99Us, 12.0)]);
        assert!(results.table().contains("NOT met"), "{}", results.table());
        assert_eq!(results.json()["goals"][0]["met"], false);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
