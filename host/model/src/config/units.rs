//! Sizes and spans of time as operators write them: `64KiB`, `250ms`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A number of bytes. Written `1500`, `"64KiB"`, `"10MiB"`, `"1GiB"`, or with decimal units `"10kB"`, `"5MB"`, `"1GB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` times 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` times 1024² bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Reads a size with a unit, or a plain number of bytes.
    ///
    /// # Errors
    /// A sentence on what is wrong, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => {
                return Err(format!(
                    "\"{text}\" is not a size: write \"64KiB\", \"10MiB\" or a number of bytes"
                ));
            }
        };
        let number: u64 = number
            .parse()
            .map_err(|_| format!("\"{text}\" is not a size: write \"64KiB\" or \"10MiB\""))?;
        number
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

/// A span of time in a configuration file: `"250ms"`, `"2s"`, `"1m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl DurationText {
    /// Reads a span of time; it has to have a unit.
    ///
    /// # Errors
    /// A sentence on what is wrong, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => {
                return Err(format!(
                    "\"{text}\" is not a span of time: write \"250ms\", \"2s\" or \"1m\""
                ));
            }
        };
        let number: u64 = number.parse().map_err(|_| {
            format!("\"{text}\" is not a span of time: write \"250ms\", \"2s\" or \"1m\"")
        })?;
        let total = number
            .checked_mul(milliseconds)
            .filter(|total| *total <= DURATION_MS_MAX);
        total
            .map(|total| Self(Duration::from_millis(total)))
            .ok_or_else(|| format!("\"{text}\" is longer than a year"))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64KiB\" or a number of bytes")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                let bytes = u64::try_from(value)
                    .map_err(|_| E::custom(format!("{value} is not a size: it is below 0")))?;
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Span;
        impl Visitor<'_> for Span {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as \"250ms\" or \"2s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationText, E> {
                DurationText::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Span)
    }
}

/// A year: longer waits are typing errors, and `Instant` arithmetic stays far from its limits.
const DURATION_MS_MAX: u64 = 366 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_or_decimal_units() {
        let cases = [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("64KiB", Some(65_536)),
            ("10 MiB", Some(10 << 20)),
            ("5kB", Some(5_000)),
            ("2GB", Some(2_000_000_000)),
            ("10mb", None),
            ("-1", None),
            ("KiB", None),
            ("", None),
            ("99999999999GiB", None),
            ("1.5MiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                ByteSize::parse(text).ok().map(|size| size.0),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn spans_of_time_need_a_unit() {
        let cases = [
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("1m", Some(60_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("2", None),
            ("2 weeks", None),
            ("s", None),
            ("-1s", None),
            ("99999999999999999h", None),
            ("10000h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                DurationText::parse(text)
                    .ok()
                    .map(|span| span.0.as_millis()),
                expected,
                "{text}"
            );
        }
    }
}
