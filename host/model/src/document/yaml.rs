//! YAML: a tree from the parser's events. The scalars mean what the core schema says (YAML 1.2.2 §10.3.2).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, Fault, Mark, NODE_WEIGHT, Parsed, WEIGHT_MAX};

pub(super) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text).keep_tags(true) {
        let (event, span) = event.map_err(|error| {
            vec![Fault::new(
                error.marker().line(),
                format!("not YAML: {}", error.info()),
            )]
        })?;
        let line = span.start.line();
        builder
            .take(event, line)
            .map_err(|message| vec![Fault::new(line, message)])?;
    }
    if builder.faults.is_empty() {
        Ok(builder.root.unwrap_or_default())
    } else {
        Err(builder.faults)
    }
}

/// A value, its lines, and what it weighs.
#[derive(Clone)]
struct Weighed {
    value: Value,
    mark: Mark,
    weight: usize,
}

/// A collection that is not yet complete.
struct Open {
    content: Content,
    mark: Mark,
    anchor: usize,
    weight: usize,
}

enum Content {
    Sequence(Vec<Value>),
    /// `key`: the entry's, while its value is to come.
    Mapping {
        entries: Map<String, Value>,
        key: Option<(String, u32)>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Weighed>,
    root: Option<(Value, Mark)>,
    /// Of all that was put in so far.
    weight: usize,
    faults: Vec<Fault>,
}

impl Builder {
    /// An error ends the reading: what follows could not be understood.
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        let mark = Mark {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            children: Vec::new(),
        };
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document starts".to_owned())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = self.expects_key();
                let value = scalar(&text, style, tag.as_deref(), is_key)?;
                self.put(
                    Weighed {
                        value,
                        mark,
                        weight: NODE_WEIGHT + text.len(),
                    },
                    anchor,
                )
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                // Weighed before it is copied: the copy is what would grow.
                Some(found) if self.weight + found.weight > WEIGHT_MAX => Err(TOO_HEAVY.to_owned()),
                Some(found) => {
                    let copy = found.clone();
                    self.put(copy, 0)
                }
                None => Err("an alias refers to what contains it".to_owned()),
            },
            Event::SequenceStart(anchor, tag) => {
                self.push(Content::Sequence(Vec::new()), mark, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => self.push(
                Content::Mapping {
                    entries: Map::new(),
                    key: None,
                },
                mark,
                anchor,
                tag.as_deref(),
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                content: Content::Mapping { key: None, .. },
                ..
            })
        )
    }

    fn push(
        &mut self,
        content: Content,
        mark: Mark,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels deep"));
        }
        if self.expects_key() {
            return Err("a key is not a scalar".to_owned());
        }
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => return Err(no_meaning(tag)),
            _ => {}
        }
        self.open.push(Open {
            content,
            mark,
            anchor,
            weight: NODE_WEIGHT,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(Open {
            content,
            mark,
            anchor,
            weight,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        // What is inside was weighed when it was put in.
        self.weight -= weight - NODE_WEIGHT;
        let value = match content {
            Content::Sequence(items) => Value::Array(items),
            Content::Mapping { entries, .. } => Value::Object(entries),
        };
        self.put(
            Weighed {
                value,
                mark,
                weight,
            },
            anchor,
        )
    }

    /// Puts a complete value where it belongs: into the innermost open collection, or as the document.
    fn put(&mut self, found: Weighed, anchor: usize) -> Result<(), String> {
        self.weight += found.weight;
        if anchor != 0 {
            // The copy for later aliases weighs as well.
            self.weight += found.weight;
            self.anchors.insert(anchor, found.clone());
        }
        if self.weight > WEIGHT_MAX {
            return Err(TOO_HEAVY.to_owned());
        }
        let Weighed {
            value,
            mut mark,
            weight,
        } = found;
        let Some(open) = self.open.last_mut() else {
            self.root = Some((value, mark));
            return Ok(());
        };
        open.weight += weight;
        match &mut open.content {
            Content::Sequence(items) => {
                items.push(value);
                open.mark.children.push(mark);
            }
            Content::Mapping { entries, key } => match key.take() {
                None => match value {
                    Value::String(text) => *key = Some((text, mark.line)),
                    _ => return Err("a key is not a scalar".to_owned()),
                },
                Some((name, line)) if name == "<<" => {
                    let message = "merge keys (<<) are not part of YAML 1.2: write the keys out";
                    self.faults.push(Fault::new(line as usize, message));
                }
                Some((name, line)) if entries.contains_key(&name) => {
                    self.faults.push(Fault::new(
                        line as usize,
                        format!("key \"{name}\" is there twice"),
                    ));
                }
                Some((name, line)) => {
                    mark.line = line;
                    entries.insert(name, value);
                    open.mark.children.push(mark);
                }
            },
        }
        Ok(())
    }
}

/// A key is text whatever it looks like: `200:` is the key "200".
fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    is_key: bool,
) -> Result<Value, String> {
    let plain = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) if !tag.is_yaml_core_schema() => return Err(no_meaning(tag)),
        Some(tag) => tag.suffix != "str",
    };
    if is_key || !plain {
        return Ok(Value::String(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().any(|byte| byte.is_ascii_digit());
    let fits = unsigned
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'));
    if !digits || !fits || unsigned.starts_with(['e', 'E', '-', '+']) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Some(integer.into());
    }
    Number::from_f64(text.parse().ok()?)
}

fn radix(digits: &str, radix: u32) -> Option<Number> {
    let signed = digits.starts_with(['-', '+']);
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| !signed)
        .map(Number::from)
}

fn no_meaning(tag: &Tag) -> String {
    format!("tag \"{}{}\" has no meaning here", tag.handle, tag.suffix)
}

const TOO_HEAVY: &str = "its aliases expand to more than 64 MiB";
