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
    fn more_readings_than_the_host_hands_over_are_refused() {
        let mut reads = Reads::default();
        for number in 0..READS_MAX {
            assert_eq!(reads.place(Reading::Header(number.to_string())), Ok(number));
        }
        assert!(reads.place(Reading::Method).is_err());
        assert_eq!(reads.place(Reading::Header("0".into())), Ok(0));
    }
}
