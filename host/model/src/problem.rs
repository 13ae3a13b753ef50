//! What is wrong with a file that an operator wrote: where, what, and what to do about it.
//!
//! Readers never stop at the first problem. They add it to [`Problems`] and go on with what is left, so that one run of
//! `tidegate check` shows all of them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the operator named it or as the naming file's folder and its entry give it.
    pub file: Arc<Path>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
}

impl Place {
    /// The file as a whole.
    pub fn file(path: &Path) -> Self {
        Self {
            file: Arc::from(path),
            line: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)
        } else {
            Ok(())
        }
    }
}

/// One problem. Shown as `configs/full.toml:42: no upstream "order"; did you mean "orders"?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    /// Lower case, one sentence without its full stop, with the offending value.
    pub message: String,
    /// What to do: `did you mean "orders"?`.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All problems found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one without a hint.
    pub fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.push(place, message.into(), None);
    }

    /// Adds one with a hint.
    pub fn add_with_hint(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.push(place, message.into(), hint);
    }

    fn push(&mut self, place: &Place, message: String, hint: Option<String>) {
        let problem = Problem {
            place: place.clone(),
            message,
            hint,
        };
        // Two stages that share a definition find the same problem twice.
        if self.0.len() < PROBLEMS_MAX && !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Takes over those of another reader.
    pub fn extend(&mut self, others: Problems) {
        for Problem {
            place,
            message,
            hint,
        } in others.0
        {
            self.push(&place, message, hint);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems by file and line.
    pub fn sorted(mut self) -> Self {
        self.0.sort();
        self
    }

    /// `value` when nothing is wrong.
    ///
    /// # Errors
    /// The problems, sorted, when there are any.
    pub fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self.sorted())
        }
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `did you mean "orders"?` when one of `known` is close to `word`.
///
/// Close: at most a third of the longer word's letters differ, and at least one may.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let length = word.chars().count().max(candidate.chars().count());
            *distance <= (length / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

/// serde's sentence with our words, and a hint where it lists what it knows.
pub(crate) fn in_our_words(message: &str) -> (String, Option<String>) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some((word, known)) = quoted.split_first().filter(|_| unknown) else {
        return (message.to_owned(), None);
    };
    let hint = did_you_mean(word, known.iter().copied())
        .or_else(|| (!known.is_empty()).then(|| format!("expected one of {}", known.join(", "))));
    let what = if message.starts_with("unknown field") {
        "unknown key"
    } else {
        "unknown value"
    };
    (format!("{what} `{word}`"), hint)
}

/// The number of letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a
        .chars()
        .flat_map(char::to_lowercase)
        .take(LETTERS_MAX)
        .collect();
    let b: Vec<char> = b
        .chars()
        .flat_map(char::to_lowercase)
        .take(LETTERS_MAX)
        .collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[b.len()]
}

/// Nobody reads more at once; further ones are left out.
const PROBLEMS_MAX: usize = 1000;

/// Names longer than this differ in more than a typing error; the bound keeps the table small.
const LETTERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_far_one_is_not() {
        let known = ["orders", "items", "x"];
        let cases = [
            ("order", Some("orders")),
            ("oredrs", Some("orders")),
            ("Items", Some("items")),
            ("itmes", Some("items")),
            ("customers", None),
            ("", Some("x")),
        ];
        for (word, expected) in cases {
            let expected = expected.map(|name| format!("did you mean \"{name}\"?"));
            assert_eq!(did_you_mean(word, known), expected, "{word}");
        }
    }

    #[test]
    fn a_problem_reads_as_place_message_and_hint() {
        let mut problems = Problems::default();
        let place = Place {
            file: Arc::from(Path::new("a.toml")),
            line: 3,
        };
        problems.add_with_hint(
            &place,
            "no upstream \"order\"",
            did_you_mean("order", ["orders"]),
        );
        problems.add(&Place::file(Path::new("a.toml")), "unreadable");
        let sorted = problems.or(()).unwrap_err();
        assert_eq!(
            sorted.to_string(),
            "a.toml: unreadable\na.toml:3: no upstream \"order\"; did you mean \"orders\"?"
        );
    }
}
