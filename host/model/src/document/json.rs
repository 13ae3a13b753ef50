//! JSON: serde_json reads the value; a second walk over the text, which is known to be JSON then, finds the lines.

use std::collections::HashSet;

use super::{Fault, Mark, Parsed};

pub(super) fn parse(text: &str) -> Parsed {
    let value = serde_json::from_str(text)
        .map_err(|error| vec![Fault::new(error.line(), format!("not JSON: {error}"))])?;
    let mut walk = Walk {
        text: text.as_bytes(),
        at: 0,
        line: 1,
        faults: Vec::new(),
    };
    let marks = walk.value();
    if walk.faults.is_empty() {
        Ok((value, marks))
    } else {
        Err(walk.faults)
    }
}

/// Goes over valid JSON. Its recursion is as deep as serde_json's, which is bounded.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn value(&mut self) -> Mark {
        let mut mark = Mark {
            line: self.line_of_next(),
            children: Vec::new(),
        };
        match self.text.get(self.at) {
            Some(b'{') => self.object(&mut mark),
            Some(b'[') => self.array(&mut mark),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
        mark
    }

    fn object(&mut self, mark: &mut Mark) {
        let mut keys = HashSet::new();
        while self.open_or_next(b'}') {
            let line = self.line_of_next();
            let start = self.at;
            self.string();
            // Escapes make one key of two spellings: compare what they mean.
            let key: String =
                serde_json::from_slice(&self.text[start..self.at]).unwrap_or_default();
            self.skip_space();
            self.at += 1;
            let child = self.value();
            mark.children.push(Mark { line, ..child });
            if keys.contains(&key) {
                self.faults.push(Fault::new(
                    line as usize,
                    format!("key \"{key}\" is there twice"),
                ));
            }
            keys.insert(key);
        }
    }

    fn array(&mut self, mark: &mut Mark) {
        while self.open_or_next(b']') {
            let child = self.value();
            mark.children.push(child);
        }
    }

    /// Goes over `{`, `[` or `,`; whether an entry follows and not the end, which it goes over as well.
    fn open_or_next(&mut self, close: u8) -> bool {
        self.skip_space();
        if self.text.get(self.at) != Some(&close) {
            self.at += 1;
            self.skip_space();
        }
        match self.text.get(self.at) {
            Some(&byte) if byte == close => {
                self.at += 1;
                false
            }
            next => next.is_some(),
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'"' => break,
                _ => {}
            }
        }
    }

    fn scalar(&mut self) {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
        while self.text.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    fn line_of_next(&mut self) -> u32 {
        self.skip_space();
        u32::try_from(self.line).unwrap_or(u32::MAX)
    }

    /// Strings have no line ends in JSON, so only white space counts them.
    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.text.get(self.at) {
            self.line += usize::from(*byte == b'\n');
            self.at += 1;
        }
    }
}
