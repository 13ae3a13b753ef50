//! How what came differs from what was expected.

use serde_json::Value;

/// The differences, each a place with what was expected and what came. Nothing where they agree.
///
/// Of an object, the members that are expected have to be there; others may be. An empty one agrees with anything. Lists and all other values are to be equal;
/// a text at one of [`SENTENCES`] has to be part of the one that came.
pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), expected, actual, &mut found);
    found
}

/// One of them.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// A JSON pointer.
    pub pointer: String,
    pub expected: Value,
    /// `None` where nothing came.
    pub actual: Option<Value>,
}

impl Difference {
    /// For people: two lines, and the place above them.
    pub fn text(&self) -> String {
        let actual = match &self.actual {
            Some(actual) => actual.to_string(),
            None => "(nothing)".to_owned(),
        };
        format!(
            "    at {}\n      - expected {}\n      + got      {actual}\n",
            if self.pointer.is_empty() {
                "/"
            } else {
                &self.pointer
            },
            self.expected
        )
    }
}

fn compare(pointer: String, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    match (expected, actual) {
        (Value::Object(expected), _) if expected.is_empty() => {}
        (Value::Object(expected), Value::Object(members)) => {
            for (key, value) in expected {
                let below = format!("{pointer}/{key}");
                match members.get(key) {
                    Some(actual) => compare(below, value, actual, found),
                    // What became of it instead says more than that it is not there.
                    None if pointer.is_empty() => found.push(Difference {
                        pointer: pointer.clone(),
                        expected: Value::Object(expected.clone()),
                        actual: Some(actual.clone()),
                    }),
                    None => found.push(Difference {
                        pointer: below,
                        expected: value.clone(),
                        actual: None,
                    }),
                }
            }
        }
        (Value::Array(expected), Value::Array(values)) if expected.len() == values.len() => {
            for (place, (expected, actual)) in expected.iter().zip(values).enumerate() {
                compare(format!("{pointer}/{place}"), expected, actual, found);
            }
        }
        (Value::String(part), Value::String(whole))
            if SENTENCES.contains(&pointer.as_str()) && whole.contains(part) => {}
        _ if expected == actual => {}
        _ => found.push(Difference {
            pointer,
            expected: expected.clone(),
            actual: Some(actual.clone()),
        }),
    }
}

/// Where a case gives part of a sentence only.
const SENTENCES: [&str; 3] = ["/refused", "/error", "/fault"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_expected_has_to_be_there_and_more_may_be() {
        let actual = json!({ "allow": { "id": "friend", "context": { "a": "1" } } });
        for agreeing in [
            json!({ "allow": {} }),
            json!({ "allow": { "id": {} } }),
            json!({ "allow": { "id": "friend" } }),
            actual.clone(),
        ] {
            assert_eq!(differences(&agreeing, &actual), [], "{agreeing}");
        }
        let cases = [
            (json!({ "allow": { "id": "foe" } }), "/allow/id"),
            (json!({ "allow": { "ids": 1 } }), "/allow/ids"),
            (json!({ "forbidden": null }), ""),
        ];
        for (expected, pointer) in cases {
            assert_eq!(differences(&expected, &actual)[0].pointer, pointer);
        }
    }

    #[test]
    fn lists_are_equal_or_not_and_sentences_need_only_a_part() {
        let edits = json!({ "edits": [{ "set-body": "a" }] });
        assert_eq!(differences(&edits, &edits), []);
        assert_eq!(differences(&json!({ "edits": [] }), &edits).len(), 1);
        let refused = json!({ "refused": "/digest: is missing" });
        assert_eq!(differences(&json!({ "refused": "/digest" }), &refused), []);
        assert_eq!(
            differences(&json!({ "forbidden": "a" }), &json!({ "forbidden": "ab" })).len(),
            1
        );
    }
}
