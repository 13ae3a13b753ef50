//! A place in a definition: a value, and how it is found again when something is wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::DurationText;
use crate::document::{Document, escape, unescape};
use crate::problem::{Place, Problems, did_you_mean, in_our_words};

/// A definition while it is read, and what is wrong with it so far.
pub(super) struct Reader<'d> {
    document: &'d Document,
    pub(super) problems: RefCell<Problems>,
}

/// A value of the definition, and its JSON pointer.
#[derive(Clone)]
pub(super) struct At<'r> {
    reader: &'r Reader<'r>,
    pub(super) value: &'r Value,
    pub(super) pointer: String,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self {
            document,
            problems: RefCell::default(),
        }
    }

    pub(super) fn root(&'d self) -> At<'d> {
        At {
            reader: self,
            value: self.document.value(),
            pointer: String::new(),
        }
    }
}

impl<'r> At<'r> {
    pub(super) fn place(&self) -> Place {
        self.reader.document.place(&self.pointer)
    }

    /// Says what is wrong here, after the pointer.
    pub(super) fn problem(&self, message: impl AsRef<str>) {
        self.problem_with_hint(message, None);
    }

    pub(super) fn problem_with_hint(&self, message: impl AsRef<str>, hint: Option<String>) {
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        let message = format!("{pointer}: {}", message.as_ref());
        self.reader
            .problems
            .borrow_mut()
            .add_with_hint(&self.place(), message, hint);
    }

    /// How many problems the whole definition has so far.
    pub(super) fn problem_count(&self) -> usize {
        self.reader.problems.borrow().len()
    }

    fn child(&self, key: &str, value: &'r Value) -> Self {
        At {
            reader: self.reader,
            value,
            pointer: format!("{}/{}", self.pointer, escape(key)),
        }
    }

    /// The entry of that key, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self
            .value
            .as_object()?
            .get(key)
            .filter(|value| !value.is_null())?;
        Some(self.child(key, value))
    }

    /// The entries, in the order written.
    pub(super) fn entries(&self) -> Vec<(&'r str, At<'r>)> {
        let entries = self.object().into_iter().flatten();
        entries
            .map(|(key, value)| (key.as_str(), self.child(key, value)))
            .collect()
    }

    pub(super) fn entries_at(&self, key: &str) -> Vec<(&'r str, At<'r>)> {
        self.get(key).map(|at| at.entries()).unwrap_or_default()
    }

    pub(super) fn items(&self) -> Vec<At<'r>> {
        let Some(items) = self.value.as_array() else {
            self.problem("is not a list");
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.child(&index.to_string(), item))
            .collect()
    }

    pub(super) fn items_at(&self, key: &str) -> Vec<At<'r>> {
        self.get(key).map(|at| at.items()).unwrap_or_default()
    }

    fn object(&self) -> Option<&'r Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.problem("is not a mapping");
        }
        object
    }

    /// Text; numbers and booleans count as what is written.
    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => {
                self.problem("is not text");
                None
            }
        }
    }

    pub(super) fn text_at(&self, key: &str) -> Option<String> {
        self.get(key)?.text()
    }

    pub(super) fn texts_at(&self, key: &str) -> Vec<String> {
        self.items_at(key).iter().filter_map(At::text).collect()
    }

    pub(super) fn text_map_at(&self, key: &str) -> BTreeMap<String, String> {
        let entries = self.entries_at(key).into_iter();
        entries
            .filter_map(|(key, at)| Some((key.to_owned(), at.text()?)))
            .collect()
    }

    /// A boolean, also where it is written as text.
    pub(super) fn flag_at(&self, key: &str) -> Option<bool> {
        let at = self.get(key)?;
        match at.value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text == "true" => Some(true),
            Value::String(text) if text == "false" => Some(false),
            _ => {
                at.problem("is neither true nor false");
                None
            }
        }
    }

    /// A number that is not negative, also where it is written as text.
    pub(super) fn count_at(&self, key: &str) -> Option<u32> {
        let at = self.get(key)?;
        let number = match at.value {
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            at.problem("is not a whole number from 0 to 4294967295");
        }
        number
    }

    pub(super) fn duration_at(&self, key: &str) -> Option<std::time::Duration> {
        let at = self.get(key)?;
        match DurationText::parse(&at.text()?) {
            Ok(DurationText(duration)) if !duration.is_zero() => Some(duration),
            Ok(_) => {
                at.problem("is 0");
                None
            }
            Err(why) => {
                at.problem(why);
                None
            }
        }
    }

    /// Reads it as serde does.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        match T::deserialize(self.value) {
            Ok(value) => Some(value),
            Err(error) => {
                let (message, hint) = in_our_words(&error.to_string());
                self.problem_with_hint(message, hint);
                None
            }
        }
    }

    /// Refuses keys that are not in `known`.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, at) in self.entries() {
            if !known.contains(&key) {
                at.problem_with_hint(
                    format!("unknown key `{key}`"),
                    did_you_mean(key, known.iter().copied()),
                );
            }
        }
    }

    /// Refuses keys that look like extensions of API Gateway or Tidegate and are none of `known`.
    pub(super) fn only_extensions(&self, known: &[&str]) {
        for (key, at) in self.entries() {
            let ours = key.starts_with("x-amazon-apigateway-") || key.starts_with("x-tidegate-");
            if ours && !known.contains(&key) {
                let hint = did_you_mean(key, known.iter().copied());
                at.problem_with_hint(format!("unknown key `{key}`"), hint);
            }
        }
    }

    /// Follows `$ref` within the file, as long as there is one.
    pub(super) fn resolved(&self) -> Option<Self> {
        let mut at = self.clone();
        for _ in 0..REFERENCES_MAX {
            match at.value.get("$ref") {
                Some(reference) => at = at.follow(reference)?,
                None => return Some(at),
            }
        }
        self.problem("$ref leads in a circle");
        None
    }

    /// What a `$ref` here leads to; says so where it leads nowhere.
    pub(super) fn follow(&self, reference: &Value) -> Option<Self> {
        let text = reference.as_str().unwrap_or_default();
        let target = self.target(text);
        if target.is_none() {
            self.problem_with_hint(
                format!("$ref \"{text}\" leads nowhere"),
                self.target_hint(text),
            );
        }
        target
    }

    /// What a reference within the file (`#/…`) means.
    fn target(&self, reference: &str) -> Option<Self> {
        let pointer = reference
            .strip_prefix('#')
            .filter(|pointer| pointer.starts_with('/'))?;
        let mut at = self.reader.root();
        for token in pointer.split('/').skip(1) {
            let token = unescape(&crate::uri::decode_segment(token));
            let value = match at.value {
                Value::Object(entries) => entries.get(&token)?,
                Value::Array(items) => items.get(token.parse::<usize>().ok()?)?,
                _ => return None,
            };
            at = at.child(&token, value);
        }
        Some(at)
    }

    fn target_hint(&self, reference: &str) -> Option<String> {
        let Some((parent, name)) = reference
            .rsplit_once('/')
            .filter(|_| reference.starts_with("#/"))
        else {
            return Some("only references within the file (#/…) are followed".to_owned());
        };
        let siblings = self.target(parent)?;
        did_you_mean(name, siblings.value.as_object()?.keys().map(String::as_str))
    }
}

/// More references in a row than anyone writes.
const REFERENCES_MAX: usize = 32;
