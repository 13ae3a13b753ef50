//! Text with wildcards and policy variables.

use std::borrow::Cow;

use super::Context;

/// A pattern, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `*`: any characters, also none.
    Many,
    /// `?`: one character.
    One,
    /// `${key}` or `${key, 'default'}`.
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// A character of what a pattern comes to for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Character(char),
    Many,
    One,
}

impl Pattern {
    /// Reads text with wildcards, and with variables where the document's version has them.
    pub fn parse(text: &str, variables: bool) -> Self {
        Self::read(text, true, variables)
    }

    /// Reads text with variables, in which `*` and `?` mean themselves.
    pub fn without_wildcards(text: &str, variables: bool) -> Self {
        Self::read(text, false, variables)
    }

    fn read(text: &str, wildcards: bool, variables: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if variables && let Some((piece, after)) = variable(rest) {
                pieces.push(piece);
                rest = after;
                continue;
            }
            rest = &rest[first.len_utf8()..];
            match (first, pieces.last_mut()) {
                ('*', _) if wildcards => pieces.push(Piece::Many),
                ('?', _) if wildcards => pieces.push(Piece::One),
                (other, Some(Piece::Text(text))) => text.push(other),
                (other, _) => pieces.push(Piece::Text(other.to_string())),
            }
        }
        Self(pieces)
    }

    /// Whether text is what the pattern says. Where a variable has no value in this request, and no default, no text is: "the
    /// value … is effectively null", and a negated operator holds.
    pub fn matches(&self, text: &str, context: &dyn Context, case: Case) -> bool {
        let Some(tokens) = self.tokens(context, case) else {
            return false;
        };
        let text: Vec<char> = case.of(text).chars().collect();
        is_like(&tokens, &text)
    }

    /// Whether an ARN is what the pattern says, part by part: "each of the six colon-delimited components of the ARN is
    /// checked separately and each can include multi-character match wildcards (*) or single-character match wildcards (?)".
    pub fn matches_arn(&self, arn: &str, context: &dyn Context) -> bool {
        let Some(tokens) = self.tokens(context, Case::Matters) else {
            return false;
        };
        let colon = Token::Character(':');
        let patterns: Vec<&[Token]> = tokens.splitn(6, |token| *token == colon).collect();
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        patterns.len() == parts.len()
            && patterns.iter().zip(parts).all(|(pattern, part)| {
                let part: Vec<char> = part.chars().collect();
                is_like(pattern, &part)
            })
    }

    fn tokens(&self, context: &dyn Context, case: Case) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => tokens.extend(characters(text, case)),
                Piece::Many => tokens.push(Token::Many),
                Piece::One => tokens.push(Token::One),
                Piece::Variable { key, default } => {
                    let values = context.values(key);
                    // Of several values, nobody knows which is meant.
                    let value = match (values.as_slice(), default) {
                        ([value], _) => value.as_ref(),
                        ([], Some(default)) => default,
                        _ => return None,
                    };
                    tokens.extend(characters(value, case));
                }
            }
        }
        Some(tokens)
    }
}

fn characters(text: &str, case: Case) -> Vec<Token> {
    case.of(text).chars().map(Token::Character).collect()
}

/// Whether letters of another case are other letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Matters,
    Ignored,
}

impl Case {
    fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Matters => Cow::Borrowed(text),
            Self::Ignored => Cow::Owned(text.to_lowercase()),
        }
    }
}

/// A variable at the start of text, and what follows it. `${*}`, `${?}` and `${$}` are these characters.
fn variable(text: &str) -> Option<(Piece, &str)> {
    let inner = text.strip_prefix("${")?;
    let (inner, rest) = inner.split_once('}')?;
    let piece = match inner {
        "*" | "?" | "$" => Piece::Text(inner.to_owned()),
        _ => {
            let (key, default) = match inner.split_once(',') {
                Some((key, default)) => {
                    let default = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
                    (key, Some(default.to_owned()))
                }
                None => (inner, None),
            };
            Piece::Variable {
                key: key.trim().to_ascii_lowercase(),
                default,
            }
        }
    };
    Some((piece, rest))
}

/// Linear in the text for each `*` at most: on a mismatch only the last one takes a character more.
fn is_like(pattern: &[Token], text: &[char]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut last_many = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(Token::Many) => {
                last_many = Some((at, place));
                at += 1;
            }
            Some(Token::One) => (at, place) = (at + 1, place + 1),
            Some(Token::Character(character)) if *character == text[place] => {
                (at, place) = (at + 1, place + 1);
            }
            _ => {
                let Some((many, taken)) = last_many else {
                    return false;
                };
                last_many = Some((many, taken + 1));
                (at, place) = (many + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|token| *token == Token::Many)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(key: &str) -> Vec<Cow<'static, str>> {
        match key {
            "aws:username" => vec!["an*n".into()],
            "aws:many" => vec!["a".into(), "b".into()],
            _ => Vec::new(),
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, true).matches(text, &context, Case::Matters)
    }

    #[test]
    fn wildcards_and_variables_stand_for_text() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxb", true),
            ("ä?", "äö", true),
            ("x/${aws:username}/*", "x/an*n/y", true),
            ("x/${AWS:UserName}/*", "x/an*n/y", true),
            ("x/${aws:username}", "x/anyn", false),
            ("${aws:none}", "", false),
            ("${aws:many}", "a", false),
            ("${aws:none, 'all'}", "all", true),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "a", false),
            ("${", "${", true),
            ("A", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        let literal = Pattern::without_wildcards("a*${aws:username}", false);
        let same = literal.matches("a*${aws:username}", &context, Case::Matters);
        assert!(same);
        let shouted = Pattern::parse("ÄB*", true).matches("äbc", &context, Case::Ignored);
        assert!(shouted);
    }

    #[test]
    fn an_arn_is_compared_part_by_part() {
        let cases = [
            ("arn:aws:iam::1:user/*", "arn:aws:iam::1:user/ann", true),
            ("arn:aws:iam::1:user/*", "arn:aws:iam::1:user/a:b", true),
            ("arn:aws:*:1:user/ann", "arn:aws:iam::1:user/ann", false),
            ("arn:*:user/ann", "arn:aws:iam::1:user/ann", false),
            ("arn:aws:iam::*:root", "arn:aws:iam::1:root", true),
        ];
        for (pattern, arn, expected) in cases {
            let matches = Pattern::parse(pattern, true).matches_arn(arn, &context);
            assert_eq!(matches, expected, "{pattern} {arn}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_a_simple_matcher_does(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            fn simple(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| simple(rest, &text[skip..])),
                    Some((b'?', rest)) => !text.is_empty() && simple(rest, &text[1..]),
                    Some((byte, rest)) => text.first() == Some(byte) && simple(rest, &text[1..]),
                }
            }
            let expected = simple(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(&pattern, &text), expected);
        }

        #[test]
        fn any_pattern_is_read(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
            let _ = matches(&pattern, &text);
            let _ = Pattern::parse(&pattern, true).matches_arn(&text, &context);
        }
    }
}
