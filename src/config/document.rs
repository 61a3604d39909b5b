//! TOML tables whose values know where they stand, so that every problem can name its line and key.
//!
//! Read by hand over the parser's spanned tables and not by `Deserialize`: that stops at the first
//! problem and does not tell the key.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Problems, did_you_mean};

/// A value that was written in the file.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    /// From 1.
    pub line: usize,
    /// `[node] store = "127.0.0.1:6401"`.
    pub place: String,
}

impl<T> At<T> {
    pub(super) fn problem(&self, problems: &mut Problems, message: impl Into<String>) {
        problems.add(self.line, &self.place, message);
    }

    pub(super) fn warning(&self, problems: &mut Problems, message: impl Into<String>) {
        problems.warn(self.line, &self.place, message);
    }
}

/// One table of the file, whose keys are taken one by one; [`Section::finish`] complains about the rest.
pub(super) struct Section<'i> {
    text: &'i str,
    /// `[node]`, `[[link]]`; the root is `top level`.
    title: String,
    line: usize,
    entries: BTreeMap<String, (Range<usize>, Spanned<DeValue<'i>>)>,
    asked: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// The root table, or the first syntax problem: the ones after it are mostly its echoes.
    pub(super) fn root(text: &'i str, problems: &mut Problems) -> Option<Self> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        if let Some(first) = errors.iter().min_by_key(|error| start(error)) {
            let message = first.message().split_whitespace().collect::<Vec<_>>().join(" ");
            problems.add(line_of(text, start(first)), "TOML syntax", message);
            return None;
        }
        Some(Self::new(text, "top level".to_owned(), 1, table.into_inner()))
    }

    fn new(text: &'i str, title: String, line: usize, table: DeTable<'i>) -> Self {
        let entries =
            table.into_iter().map(|(key, value)| (key.get_ref().to_string(), (key.span(), value))).collect();
        Self { text, title, line, entries, asked: Vec::new() }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The table under `[key]`.
    pub(super) fn table(&mut self, key: &'static str, problems: &mut Problems) -> Option<Self> {
        let (span, value) = self.take(key)?;
        self.sub_table(format!("[{key}]"), span, value, problems)
    }

    /// The table under `[this.key]`.
    pub(super) fn inner_table(&mut self, key: &'static str, problems: &mut Problems) -> Option<Self> {
        let (span, value) = self.take(key)?;
        let title = format!("[{}.{key}]", self.title.trim_matches(['[', ']']));
        self.sub_table(title, span, value, problems)
    }

    /// The tables under `[[key]]`, in order.
    pub(super) fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Self> {
        let Some((span, value)) = self.take(key) else { return Vec::new() };
        let title = format!("[[{key}]]");
        match value.into_inner() {
            DeValue::Array(items) => items
                .into_iter()
                .filter_map(|item| self.sub_table(title.clone(), item.span(), item, problems))
                .collect(),
            other => {
                let line = line_of(self.text, span.start);
                let message = format!("expected tables headed {title}, found {}", kind_of(&other));
                problems.add(line, format!("[{key}]"), message);
                Vec::new()
            }
        }
    }

    fn sub_table(
        &self,
        title: String,
        span: Range<usize>,
        value: Spanned<DeValue<'i>>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let line = line_of(self.text, span.start);
        match value.into_inner() {
            DeValue::Table(table) => Some(Self::new(self.text, title, line, table)),
            other => {
                problems.add(
                    line,
                    &title,
                    format!("expected a table headed {title}, found {}", kind_of(&other)),
                );
                None
            }
        }
    }

    /// A text value, parsed. `expected` says what it should have been.
    pub(super) fn text<T, E: ToString>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        let (found, value) = self.found(key)?;
        let Some(text) = value.as_str() else {
            found.problem(
                problems,
                format!("expected a text in quotes, {expected}; found {}", kind_of(&value)),
            );
            return None;
        };
        match parse(text) {
            Ok(value) => Some(At { value, line: found.line, place: found.place }),
            Err(message) => {
                found.problem(problems, message.to_string());
                None
            }
        }
    }

    /// As [`Section::text`], and it must be there.
    pub(super) fn required_text<T, E: ToString>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        if !self.has(key) {
            problems.add(
                self.line,
                &self.title,
                format!("the key \"{key}\" is missing; expected {expected}"),
            );
        }
        self.text(key, expected, parse, problems)
    }

    /// A whole number within a range. `unit` is what it counts.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        unit: &str,
        range: std::ops::RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Option<u64> {
        let (found, value) = self.found(key)?;
        let number = whole_number(&value).filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            found.problem(problems, format!("expected a whole number of {unit} from {low} to {high}"));
        }
        number
    }

    /// Whole numbers within a range, in an array. `unit` is what they count.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        unit: &str,
        range: std::ops::RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Option<Vec<u64>> {
        let (low, high) = (range.start(), range.end());
        let expected = format!("expected an array of {unit} from {low} to {high}");
        self.array(key, |value| whole_number(value).filter(|n| range.contains(n)).ok_or(&expected), problems)
    }

    /// Texts in an array, each parsed. `expected` says what they should have been.
    pub(super) fn texts<T, E: ToString>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        problems: &mut Problems,
    ) -> Option<Vec<T>> {
        let item = |value: &DeValue<'_>| match value.as_str() {
            Some(text) => parse(text).map_err(|message| message.to_string()),
            None => Err(format!("expected an array of texts in quotes, {expected}")),
        };
        self.array(key, item, problems)
    }

    pub(super) fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<At<bool>> {
        let (found, value) = self.found(key)?;
        if value.as_bool().is_none() {
            found.problem(problems, format!("expected true or false; found {}", kind_of(&value)));
        }
        Some(At { value: value.as_bool()?, line: found.line, place: found.place })
    }

    fn array<T, E: ToString>(
        &mut self,
        key: &'static str,
        item: impl Fn(&DeValue<'_>) -> Result<T, E>,
        problems: &mut Problems,
    ) -> Option<Vec<T>> {
        let (found, value) = self.found(key)?;
        let DeValue::Array(items) = &value else {
            found.problem(problems, format!("expected an array; found {}", kind_of(&value)));
            return None;
        };
        let items: Result<Vec<T>, E> = items.iter().map(|value| item(value.get_ref())).collect();
        items.map_err(|message| found.problem(problems, message.to_string())).ok()
    }

    /// Complains about every key that no one asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (key, (span, value)) in &self.entries {
            let (name, shown) = match value.get_ref() {
                DeValue::Table(_) => ("table", format!("[{key}]")),
                DeValue::Array(items) if items.iter().any(|i| i.get_ref().is_table()) => {
                    ("table", format!("[[{key}]]"))
                }
                _ => ("key", format!("{} {key}", self.title)),
            };
            let line = line_of(self.text, span.start);
            let hint = did_you_mean(key, self.asked.iter().copied(), || {
                format!("expected one of {}", self.asked.join(", "))
            });
            // The value is not shown: a misplaced password would be.
            problems.add(line, shown, format!("unknown {name}; {hint}"));
        }
    }

    /// The value under a key as it is written.
    fn found(&mut self, key: &'static str) -> Option<(At<()>, DeValue<'i>)> {
        let (span, value) = self.take(key)?;
        let written = excerpt(self.text.get(value.span()).unwrap_or_default());
        let place = format!("{} {key} = {written}", self.title);
        Some((At { value: (), line: line_of(self.text, span.start), place }, value.into_inner()))
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, Spanned<DeValue<'i>>)> {
        self.asked.push(key);
        self.entries.remove(key)
    }
}

fn whole_number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|b| **b == b'\n').count().saturating_add(1)
}

fn excerpt(written: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let line = written.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < written.len() {
        shown.push('…');
    }
    shown
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
