//! Which of several stored responses a request selects.
//!
//! Source: RFC 9111 §4.1.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY,
};
use http::{HeaderMap, HeaderName};

use super::directives::split;

/// What a response varies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    Nothing,
    /// "a Vary header field value containing a member "*" always fails to match".
    Everything,
    /// In order, each once.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Reads the field lines of `Vary`.
    pub fn read(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for line in response.get_all(VARY) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let member = member.trim_ascii();
                if member.is_empty() {
                    continue;
                }
                match HeaderName::from_bytes(member) {
                    _ if member == b"*" => return Self::Everything,
                    Ok(name) => names.push(name),
                    Err(_) => return Self::Everything, // nobody knows on what it varies
                }
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.is_empty() {
            Self::Nothing
        } else {
            Self::Fields(names)
        }
    }
}

/// What a request says in the fields that a response varies on, in normal form: one line each.
///
/// "can be transformed … by adding or removing whitespace …; combining multiple header field lines …; normalizing both
/// … in a way that is known to have identical semantics". An absent field is not an empty one.
pub fn selecting(names: &[HeaderName], request: &HeaderMap) -> Box<[u8]> {
    let mut text = Vec::with_capacity(64);
    for name in names {
        text.extend_from_slice(name.as_str().as_bytes());
        if request.contains_key(name) {
            text.push(b':');
            text.extend_from_slice(&normalized(name, request));
        }
        text.push(b'\n');
    }
    text.into_boxed_slice()
}

fn normalized(name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
    let lines = request.get_all(name).iter();
    let mut members: Vec<Vec<u8>> = lines
        .flat_map(|line| split(line.as_bytes(), b','))
        .map(|member| member.trim_ascii().to_vec())
        .filter(|member| !member.is_empty())
        .collect();
    // Preferences by weight: neither their order nor their case means anything (RFC 9110 §12.5).
    if [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        for member in &mut members {
            member.make_ascii_lowercase();
            member.retain(|byte| !matches!(byte, b' ' | b'\t'));
        }
        members.sort_unstable();
        members.dedup();
    }
    members.join(&b',')
}

/// Whether a stored response that varies on nothing but the language is in the one language that a request wants most.
///
/// "A cache can … choose … by applying … content negotiation" is what an origin would do; it is done here only where no
/// other language could be chosen: the wanted one has the highest weight, alone, and the stored response is in it.
pub fn is_in_the_language_wanted(
    names: &[HeaderName],
    stored: &HeaderMap,
    request: &HeaderMap,
) -> bool {
    let [ACCEPT_LANGUAGE] = names else {
        return false;
    };
    let Some(language) = stored.get(CONTENT_LANGUAGE) else {
        return false;
    };
    wanted_language(request).is_some_and(|wanted| language.as_bytes().eq_ignore_ascii_case(&wanted))
}

/// The language with the highest weight, where it is one; weights in thousandths.
fn wanted_language(request: &HeaderMap) -> Option<Vec<u8>> {
    let mut best: Option<(u32, Vec<u8>)> = None;
    let mut alone = true;
    for line in request.get_all(ACCEPT_LANGUAGE) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().filter(|range| !range.is_empty());
            let Some(range) = range else { continue };
            let weight = match parts.next() {
                None => 1000,
                Some(parameter) => weight(parameter)?,
            };
            match &best {
                Some((known, _)) if *known > weight => {}
                Some((known, _)) if *known == weight => alone = false,
                _ => {
                    best = Some((weight, range.to_vec()));
                    alone = true;
                }
            }
        }
    }
    best.filter(|(weight, range)| alone && *weight > 0 && range != b"*")
        .map(|(_, range)| range)
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2).
fn weight(parameter: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(parameter).ok()?;
    let value = text.strip_prefix("q=").or(text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 1)?;
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
    Some(whole * 1000 + fraction).filter(|weight| *weight <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::map;

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [
            &["*"][..],
            &["*, *"],
            &[", *"],
            &["", "*"],
            &["*, foo"],
            &["foo, *"],
            &["a b"],
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            assert_eq!(Vary::read(&map(&fields)), Vary::Everything, "{lines:?}");
        }
        assert_eq!(Vary::read(&map(&[])), Vary::Nothing);
        assert_eq!(Vary::read(&map(&[("vary", " , ")])), Vary::Nothing);
        let names = Vary::Fields(vec!["bar".parse().unwrap(), "foo".parse().unwrap()]);
        assert_eq!(
            Vary::read(&map(&[("vary", "Foo, bar"), ("vary", "FOO")])),
            names
        );
    }

    #[test]
    fn requests_that_mean_the_same_select_the_same() {
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(&str, Fields, Fields, bool); 13] = [
            ("foo", &[("foo", "1")], &[("foo", "1")], true),
            ("foo", &[("foo", "1")], &[("foo", "2")], false),
            ("foo", &[("foo", "1")], &[], false),
            ("foo", &[("foo", "")], &[], false),
            (
                "foo",
                &[("foo", "1, 2")],
                &[("foo", "1"), ("foo", "2")],
                true,
            ),
            ("foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
            ("foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false),
            ("foo", &[("foo", "a")], &[("foo", "A")], false),
            ("foo", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")], false),
            (
                "accept-language",
                &[("accept-language", "en, de")],
                &[("accept-language", "dE,EN")],
                true,
            ),
            (
                "accept-language",
                &[("accept-language", "en; q=0.5")],
                &[("accept-language", "en;q=0.5")],
                true,
            ),
            (
                "accept-language",
                &[("accept-language", "en;q=0.5")],
                &[("accept-language", "en;q=0.6")],
                false,
            ),
            (
                "foo",
                &[("foo", "1"), ("bar", "1")],
                &[("foo", "1"), ("bar", "2")],
                true,
            ),
        ];
        for (name, one, other, same) in cases {
            let names = [name.parse().unwrap()];
            assert_eq!(
                selecting(&names, &map(one)) == selecting(&names, &map(other)),
                same,
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn one_field_cannot_be_written_so_that_it_looks_like_two() {
        let names: Vec<HeaderName> = vec!["a".parse().unwrap(), "b".parse().unwrap()];
        let two = map(&[("a", "1"), ("b", "2")]);
        let one = map(&[("a", "1,b:2")]);
        assert_ne!(selecting(&names, &two), selecting(&names, &one));
    }

    #[test]
    fn a_response_in_the_only_language_wanted_most_is_selected() {
        let german = map(&[("content-language", "de")]);
        let names = [ACCEPT_LANGUAGE];
        let cases = [
            ("fr;q=0.5, de;q=1.0", true),
            ("DE", true),
            ("de, en", false),
            ("de;q=0.5, fr", false),
            ("*", false),
            ("de;q=0", false),
            ("de;q=2", false),
        ];
        for (value, expected) in cases {
            let request = map(&[("accept-language", value)]);
            assert_eq!(
                is_in_the_language_wanted(&names, &german, &request),
                expected,
                "{value}"
            );
        }
        let two = [ACCEPT_LANGUAGE, ACCEPT];
        let request = map(&[("accept-language", "de")]);
        assert!(!is_in_the_language_wanted(&two, &german, &request));
    }
}
