//! A configuration file while it is read: its text, its lines, and what is wrong with it.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::problem::{Place, Problems, in_our_words};

/// A file and the problems found in it so far.
pub(super) struct Source {
    file: Arc<Path>,
    /// The byte offset at which each line starts.
    line_starts: Vec<usize>,
    /// Keys that were taken out because their value was wrong: that they are missing is no further problem.
    taken_out: HashSet<String>,
    /// The file is not TOML: that anything is missing is no further problem.
    unreadable: bool,
    pub(super) problems: Problems,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file: Arc::from(path),
            line_starts: std::iter::once(0)
                .chain(newlines.map(|(at, _)| at + 1))
                .collect(),
            taken_out: HashSet::new(),
            unreadable: false,
            problems: Problems::default(),
        }
    }

    /// The line of a span.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let line = self
            .line_starts
            .partition_point(|start| *start <= span.start);
        Place {
            file: self.file.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }

    /// A path that this file names: relative to the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match self.file.parent() {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        }
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let place = self.place(span);
        self.problems.add(&place, message);
    }

    pub(super) fn problem_with_hint(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let place = self.place(span);
        self.problems.add_with_hint(&place, message, hint);
    }

    /// Says that `owner` lacks `key`, unless the key is there with a value that was already complained of.
    pub(super) fn missing(&mut self, span: &Range<usize>, owner: &str, key: &str) {
        if !self.unreadable && !self.taken_out.contains(key) {
            self.problem(span, format!("{owner}: `{key}` is missing"));
        }
    }

    /// Reads the whole text as a `T`, whose fields are all optional.
    ///
    /// serde stops at the first problem. So the entry that it stumbled over is taken out and what is left is read again,
    /// until nothing is wrong with the rest.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self, text: &str) -> T {
        let (mut table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.problem(&span, error.message().trim_end());
        }
        if !errors.is_empty() {
            // What recovery guessed would only bring problems that nobody made.
            self.unreadable = true;
            return T::default();
        }
        for _ in 0..PROBLEMS_MAX {
            let error = match T::deserialize(Deserializer::from(table.clone())) {
                Ok(value) => return value,
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let (message, hint) = in_our_words(error.message());
            self.problem_with_hint(&span, message, hint);
            match take_out(table.get_mut(), &span) {
                Some(key) => self.taken_out.insert(key),
                None => return T::default(),
            };
        }
        T::default()
    }
}

/// Removes the innermost entry that `span` lies in, and returns its key.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let mut best = None;
    find_in_table(table, span, &mut Vec::new(), &mut best);
    let (_, path) = best?;
    let (last, parents) = path.split_last()?;
    let Step::Key(key) = last else { return None };
    let mut at = table;
    let mut parents = parents.iter();
    while let Some(Step::Key(name)) = parents.next() {
        let mut value = at.get_mut(name.as_str())?.get_mut();
        loop {
            match value {
                DeValue::Table(inner) => {
                    at = inner;
                    break;
                }
                DeValue::Array(items) => {
                    let Some(Step::Index(index)) = parents.next() else {
                        return None;
                    };
                    value = items.get_mut(*index)?.get_mut();
                }
                _ => return None,
            }
        }
    }
    at.remove(key.as_str()).map(|_| key.clone())
}

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// The length of the smallest span found so far that holds the wanted one, and the way to its entry.
type Best = Option<(usize, Vec<Step>)>;

fn find_in_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<Step>, best: &mut Best) {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        offer(&key.span(), span, path, best);
        find_in_value(value.get_ref(), &value.span(), span, path, best);
        path.pop();
    }
}

fn find_in_value(
    value: &DeValue<'_>,
    at: &Range<usize>,
    span: &Range<usize>,
    path: &mut Vec<Step>,
    best: &mut Best,
) {
    offer(at, span, path, best);
    match value {
        DeValue::Table(table) => find_in_table(table, span, path, best),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                find_in_value(item.get_ref(), &item.span(), span, path, best);
                path.pop();
            }
        }
        _ => {}
    }
}

fn offer(candidate: &Range<usize>, span: &Range<usize>, path: &[Step], best: &mut Best) {
    let holds = candidate.start <= span.start && span.end <= candidate.end;
    let smaller = best
        .as_ref()
        .is_none_or(|(length, _)| candidate.len() <= *length);
    if holds && smaller {
        // An element is not taken out of its array: the entry that holds the array is.
        let keys = path
            .iter()
            .rposition(|step| matches!(step, Step::Key(_)))
            .map_or(0, |last| last + 1);
        *best = Some((candidate.len(), path[..keys].to_vec()));
    }
}

/// More than this many misshapen entries in one file are another kind of file.
const PROBLEMS_MAX: usize = 100;
