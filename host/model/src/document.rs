//! A YAML or JSON file as one JSON value that knows the line of each of its parts.
//!
//! Whatever is in the file, loading it takes bounded time and memory: [`BYTES_MAX`] of text, [`DEPTH_MAX`] levels, and
//! [`WEIGHT_MAX`] once aliases are expanded, so that no "billion laughs" can grow.

mod json;
mod yaml;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::problem::{Place, Problems};

/// A loaded file.
#[derive(Debug, Clone)]
pub struct Document {
    file: Arc<Path>,
    value: Value,
    marks: Mark,
}

/// The line of a value, and the marks of its elements or entries in their order.
#[derive(Debug, Clone, Default)]
struct Mark {
    /// The line of an entry's key; of the value itself elsewhere.
    line: u32,
    children: Vec<Mark>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it: unreadable, too large, neither YAML nor JSON, keys that are there twice.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(path, &text),
            Err(error) => {
                let mut problems = Problems::default();
                problems.add(&Place::file(path), format!("cannot be read: {error}"));
                Err(problems)
            }
        }
    }

    /// Reads `text`; `path` is what problems refer to. Text that starts with `{` is JSON (RFC 8259), any other YAML 1.2.
    ///
    /// # Errors
    /// As [`Document::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let file: Arc<Path> = Arc::from(path);
        let mut problems = Problems::default();
        if text.len() > BYTES_MAX {
            problems.add(
                &Place { file, line: 0 },
                format!("is larger than {} MiB", BYTES_MAX >> 20),
            );
            return Err(problems);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_json = text
            .trim_start_matches([' ', '\t', '\r', '\n'])
            .starts_with('{');
        let parsed = if is_json {
            json::parse(text)
        } else {
            yaml::parse(text)
        };
        match parsed {
            Ok((value, marks)) => Ok(Self { file, value, marks }),
            Err(faults) => {
                for Fault { line, message } in faults {
                    problems.add(
                        &Place {
                            file: file.clone(),
                            line,
                        },
                        message,
                    );
                }
                Err(problems)
            }
        }
    }

    /// The whole file's value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The line of the value at `pointer` (RFC 6901); where there is none, of the closest one above it.
    pub fn place(&self, pointer: &str) -> Place {
        let mut value = &self.value;
        let mut mark = &self.marks;
        for token in pointer.split('/').skip(1) {
            let Some((index, inner)) = entry(value, &unescape(token)) else {
                break;
            };
            let Some(inner_mark) = mark.children.get(index) else {
                break;
            };
            (value, mark) = (inner, inner_mark);
        }
        Place {
            file: self.file.clone(),
            line: mark.line,
        }
    }
}

/// An entry or element, and its place among its siblings.
fn entry<'v>(value: &'v Value, token: &str) -> Option<(usize, &'v Value)> {
    match value {
        Value::Object(entries) => {
            let mut entries = entries.iter().enumerate();
            entries
                .find(|(_, (key, _))| *key == token)
                .map(|(index, (_, inner))| (index, inner))
        }
        Value::Array(items) => {
            let index = token.parse().ok()?;
            items.get(index).map(|inner| (index, inner))
        }
        _ => None,
    }
}

/// A token of a JSON pointer as the key that it means.
pub fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A key as a token of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Something wrong at a line.
struct Fault {
    line: u32,
    message: String,
}

impl Fault {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            message: message.into(),
        }
    }
}

/// A value with the lines of its parts, or what is wrong.
type Parsed = Result<(Value, Mark), Vec<Fault>>;

/// The longest text: the largest public API definitions have some 5 MiB.
pub const BYTES_MAX: usize = 10 << 20;

/// The deepest nesting, as serde_json's.
pub const DEPTH_MAX: usize = 127;

/// The bytes of all keys and scalars, and 32 for each value, aliases expanded.
pub const WEIGHT_MAX: usize = 64 << 20;

/// What a value weighs beside its text.
const NODE_WEIGHT: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(Path::new("api.yaml"), text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn yaml_becomes_the_json_that_it_means() {
        let cases = [
            ("a: 1", r#"{"a":1}"#),
            ("a: '1'\nb: !!str 1", r#"{"a":"1","b":"1"}"#),
            (
                "a: [true, False, ~, null, 1.5, 0x1F, 0o17, -7, +3]",
                r#"{"a":[true,false,null,null,1.5,31,15,-7,3]}"#,
            ),
            (
                "a: [yes, on, 1_000, 1.2.3, .inf, 2020-01-01]",
                r#"{"a":["yes","on","1_000","1.2.3",".inf","2020-01-01"]}"#,
            ),
            ("200: ok\n'201': made", r#"{"200":"ok","201":"made"}"#),
            ("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#),
            ("a: &x {b: 1}\nc: *x", r#"{"a":{"b":1},"c":{"b":1}}"#),
            ("a:\n", r#"{"a":null}"#),
            ("a: 18446744073709551616", r#"{"a":1.8446744073709552e+19}"#),
            ("a: .5\nb: 1e3\nc: '.5'", r#"{"a":0.5,"b":1000.0,"c":".5"}"#),
            ("# nothing\n", "null"),
            ("{\"a\": \"\\ud83d\\ude00\"}", "{\"a\":\"\u{1f600}\"}"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse(text).map(|document| document.value.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let cases = [
            ("a: 1\nb: ]", "api.yaml:2: "),
            ("a: 1\na: 2", "api.yaml:2: key \"a\" is there twice"),
            ("a: 1\n---\nb: 2", "api.yaml:2: a second document starts"),
            (
                "a: 1\nb: !Ref x",
                "api.yaml:2: tag \"!Ref\" has no meaning here",
            ),
            ("a: 1\n[1]: 2", "api.yaml:2: a key is not a scalar"),
            ("a: *x", "api.yaml:1: "),
            (
                "a: &a {}\nb:\n  <<: *a",
                "api.yaml:3: merge keys (<<) are not part of YAML 1.2: write the keys out",
            ),
            (
                "{\n \"a\": 1,\n \"a\": 2}",
                "api.yaml:3: key \"a\" is there twice",
            ),
            ("{\n \"a\": }", "api.yaml:2: "),
        ];
        for (text, expected) in cases {
            let problems = parse(text).err().unwrap_or_default();
            assert!(problems.starts_with(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn a_pointer_has_the_line_of_its_key_in_yaml_and_json() {
        let yaml = "paths:\n  /a/{b}:\n    get:\n      - x\n      - y: 1\n";
        let json = "{\"paths\":\n {\"/a/{b}\":\n {\"get\":\n [\"x\",\n {\"y\": 1}]}}}";
        for (text, offset) in [(yaml, 0), (json, 0)] {
            let document = parse(text).unwrap();
            let cases = [
                ("/paths", 1),
                ("/paths/~1a~1{b}", 2),
                ("/paths/~1a~1{b}/get", 3),
                ("/paths/~1a~1{b}/get/0", 4),
                ("/paths/~1a~1{b}/get/1/y", 5),
                ("/paths/~1a~1{b}/put/x", 2),
            ];
            for (pointer, line) in cases {
                assert_eq!(
                    document.place(pointer).line,
                    line + offset,
                    "{pointer} in {text}"
                );
            }
        }
    }

    #[test]
    fn nothing_grows_without_bound() {
        let laughs: String = (1..30)
            .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1))
            .collect();
        let long = format!("a0: &a0 {}\n", "x".repeat(1 << 20));
        let copies = format!("{long}b: [{}]", "*a0, ".repeat(1000));
        let deep = format!("a: {}", "[".repeat(5000));
        let deep_block: String = (0..500).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        let deep_json = format!("{{\"a\": {}", "[".repeat(5000));
        for text in [
            format!("a0: &a0 x\n{laughs}"),
            copies,
            deep,
            deep_block,
            deep_json,
            " ".repeat(BYTES_MAX + 1),
        ] {
            assert!(parse(&text).is_err(), "{}", &text[..40]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)[ -~\n\t:{}\\[\\],&*!|>'\"#%@`é-]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_characters_are_read_or_refused(text in "(?s).{0,80}", json in any::<bool>()) {
            let _ = parse(&if json { format!("{{{text}") } else { text });
        }

        #[test]
        fn json_is_read_the_same_as_yaml_reads_it(value in json_value()) {
            let text = format!("{{\"v\": {value}}}");
            let read = parse(&text).map(|document| document.value["v"].clone());
            prop_assert_eq!(read, Ok(value.clone()));
            let yaml = format!("v: {value}");
            let read = parse(&yaml).map(|document| document.value["v"].clone());
            prop_assert_eq!(read, Ok(value));
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z0-9 :#-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }
}
