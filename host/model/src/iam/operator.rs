//! Condition operators: what each compares, and how.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, Time};

use super::Context;
use super::pattern::{Case, Pattern};

/// What is compared, and how; the negated ones are [`super::condition`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `StringEquals`, `StringLike`, and those that ignore case.
    Text {
        wildcards: bool,
        case: Case,
    },
    /// `ArnEquals` and `ArnLike`, which are the same.
    Arn,
    Numeric(Order),
    Date(Order),
    Bool,
    Binary,
    IpAddress,
    /// Whether the key is absent.
    Null,
}

/// How two values may stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of a policy, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Pattern(Pattern),
    Number(f64),
    Moment(OffsetDateTime),
    Truth(bool),
    Bytes(Vec<u8>),
    Network(IpNet),
}

impl Operator {
    /// The operator of a name, and whether it is negated.
    pub fn parse(name: &str) -> Option<(Self, bool)> {
        let text = |wildcards, case| Self::Text { wildcards, case };
        let (matters, ignored) = (Case::Matters, Case::Ignored);
        let order = |rest: &str| match rest {
            "Equals" => Some((Order::Equal, false)),
            "NotEquals" => Some((Order::Equal, true)),
            "LessThan" => Some((Order::Less, false)),
            "LessThanEquals" => Some((Order::LessOrEqual, false)),
            "GreaterThan" => Some((Order::Greater, false)),
            "GreaterThanEquals" => Some((Order::GreaterOrEqual, false)),
            _ => None,
        };
        Some(match name {
            "StringEquals" => (text(false, matters), false),
            "StringNotEquals" => (text(false, matters), true),
            "StringEqualsIgnoreCase" => (text(false, ignored), false),
            "StringNotEqualsIgnoreCase" => (text(false, ignored), true),
            "StringLike" => (text(true, matters), false),
            "StringNotLike" => (text(true, matters), true),
            "ArnEquals" | "ArnLike" => (Self::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Self::Arn, true),
            "Bool" => (Self::Bool, false),
            "BinaryEquals" => (Self::Binary, false),
            "IpAddress" => (Self::IpAddress, false),
            "NotIpAddress" => (Self::IpAddress, true),
            "Null" => (Self::Null, false),
            _ => {
                let (order, negated, kind) = match name.strip_prefix("Numeric") {
                    Some(rest) => order(rest).map(|(order, not)| (order, not, true))?,
                    None => {
                        let rest = name.strip_prefix("Date")?;
                        order(rest).map(|(order, not)| (order, not, false))?
                    }
                };
                let operator = if kind {
                    Self::Numeric(order)
                } else {
                    Self::Date(order)
                };
                (operator, negated)
            }
        })
    }

    /// Reads a value that the policy compares with. `variables`: whether the document's version has them.
    ///
    /// # Errors
    /// A sentence on what it is not.
    pub fn operand(self, text: &str, variables: bool) -> Result<Operand, String> {
        let no = |what: &str| format!("\"{text}\" is no {what}");
        match self {
            Self::Text {
                wildcards: false, ..
            } => Ok(Operand::Pattern(Pattern::without_wildcards(
                text, variables,
            ))),
            Self::Text { .. } | Self::Arn => Ok(Operand::Pattern(Pattern::parse(text, variables))),
            Self::Numeric(_) => number(text).map(Operand::Number).ok_or(no("number")),
            Self::Date(_) => moment(text).map(Operand::Moment).ok_or(no("date")),
            Self::Bool | Self::Null => truth(text).map(Operand::Truth).ok_or(no("true or false")),
            Self::Binary => STANDARD
                .decode(text)
                .map(Operand::Bytes)
                .map_err(|_| no("Base64")),
            Self::IpAddress => network(text)
                .map(Operand::Network)
                .ok_or(no("address or network")),
        }
    }

    /// Compares a value of the request with one of the policy.
    pub fn holds(self, value: &str, operand: &Operand, context: &dyn Context) -> bool {
        match (self, operand) {
            (Self::Text { case, .. }, Operand::Pattern(pattern)) => {
                pattern.matches(value, context, case)
            }
            (Self::Arn, Operand::Pattern(pattern)) => pattern.matches_arn(value, context),
            (Self::Numeric(order), Operand::Number(number)) => {
                self::number(value).is_some_and(|value| order.holds(value.partial_cmp(number)))
            }
            (Self::Date(order), Operand::Moment(moment)) => {
                self::moment(value).is_some_and(|value| order.holds(Some(value.cmp(moment))))
            }
            (Self::Bool, Operand::Truth(truth)) => self::truth(value) == Some(*truth),
            (Self::Binary, Operand::Bytes(bytes)) => {
                STANDARD.decode(value).is_ok_and(|value| value == *bytes)
            }
            (Self::IpAddress, Operand::Network(network)) => {
                let address = value
                    .parse::<IpAddr>()
                    .map(|address| address.to_canonical());
                address.is_ok_and(|address| network.contains(&address))
            }
            _ => false, // an operator reads its own operands only
        }
    }
}

impl Order {
    fn holds(self, found: Option<std::cmp::Ordering>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        matches!(
            (self, found),
            (Self::Equal, Some(Equal))
                | (Self::Less, Some(Less))
                | (Self::LessOrEqual, Some(Less | Equal))
                | (Self::Greater, Some(Greater))
                | (Self::GreaterOrEqual, Some(Greater | Equal))
        )
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// "one of the W3C implementations of the ISO 8601 date formats or in epoch (UNIX) time".
fn moment(text: &str) -> Option<OffsetDateTime> {
    if let Ok(seconds) = text.parse::<i64>() {
        return OffsetDateTime::from_unix_timestamp(seconds).ok();
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(text, &Iso8601::DEFAULT));
    // Last: it takes what has a time too, and drops that.
    let date = || Date::parse(text, &Iso8601::DATE).ok();
    let midnight = || Some(date()?.with_time(Time::MIDNIGHT).assume_utc());
    moment.ok().or_else(midnight)
}

/// "in the standard CIDR format (for example, 203.0.113.0/24 or 2001:DB8:1234:5678::/64)"; an address is a network of one.
fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}
