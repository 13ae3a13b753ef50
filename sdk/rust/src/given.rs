use crate::types::Reading;

/// The values that the host handed over with a call, in the order of [`Setup::reads`](crate::Setup::reads).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given(Vec<Option<String>>);

impl Given {
    /// The value of the reading at `place`; `None` where the request has none, or nothing was asked for at that place.
    pub fn get(&self, place: usize) -> Option<&str> {
        self.0.get(place)?.as_deref()
    }

    /// As [`get`](Self::get), leaving nothing behind.
    pub fn take(&mut self, place: usize) -> Option<String> {
        self.0.get_mut(place)?.take()
    }

    /// `name` and the first `count` values as one key, such as of a token bucket: each value behind its length, so that no two
    /// lists of values make the same.
    pub fn key(&self, name: &str, count: usize) -> String {
        let mut key = name.to_owned();
        for place in 0..count {
            key.push(SEPARATOR);
            match self.get(place) {
                Some(value) => {
                    key.push_str(&value.len().to_string());
                    key.push(SEPARATOR);
                    key.push_str(value);
                }
                None => key.push('-'),
            }
        }
        key
    }
}

impl From<Vec<Option<String>>> for Given {
    fn from(values: Vec<Option<String>>) -> Self {
        Self(values)
    }
}

/// The readings that a plugin wants to be given, each once, in the order in which they were first asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reads(Vec<Reading>);

impl Reads {
    /// The place in [`Given`] of `reading`.
    ///
    /// # Errors
    ///
    /// The host hands over 64 values at the most.
    pub fn place(&mut self, reading: Reading) -> Result<usize, String> {
        if let Some(place) = self.0.iter().position(|known| *known == reading) {
            return Ok(place);
        }
        if self.0.len() == READS_MAX {
            return Err(format!("reads more than {READS_MAX} values of the request"));
        }
        self.0.push(reading);
        Ok(self.0.len() - 1)
    }
}

impl IntoIterator for Reads {
    type Item = Reading;
    type IntoIter = std::vec::IntoIter<Reading>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The unit separator of ASCII.
const SEPARATOR: char = '\u{1f}';
/// `setup.reads` of the WIT.
const READS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reading_has_one_place() {
        let mut reads = Reads::default();
        assert_eq!(reads.place(Reading::Method), Ok(0));
        assert_eq!(reads.place(Reading::Path), Ok(1));
        assert_eq!(reads.place(Reading::Method), Ok(0));
    }

    #[test]
    fn different_values_never_make_the_same_key() {
        let key = |values: [Option<&str>; 2]| {
            let values: Vec<_> = values.iter().map(|value| value.map(String::from)).collect();
            Given::from(values).key("name", 2)
        };
        let keys = [
            key([Some("a"), Some("b")]),
            key([Some("a\u{1f}1\u{1f}b"), None]),
            key([Some("ab"), Some("")]),
            key([Some("ab"), None]),
            key([None, Some("ab")]),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{key:?}");
        }
    }

    #[test]
    fn more_readings_than_the_host_hands_over_are_refused() {
        let mut reads = Reads::default();
        for number in 0..READS_MAX {
            assert_eq!(reads.place(Reading::Header(number.to_string())), Ok(number));
        }
        assert!(reads.place(Reading::Method).is_err());
        assert_eq!(reads.place(Reading::Header("0".into())), Ok(0));
    }
}
