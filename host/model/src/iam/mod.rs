//! Policies in the language of AWS IAM: what they say of a request.
//!
//! [`Policy::parse`] reads a document and says all that is wrong with it; [`Policy::decide`] judges a [`Request`]. It knows
//! no service: whoever asks says what the action, the resource and the condition keys are.
//!
//! Source: AWS IAM user guide, "IAM JSON policy elements reference" and "Policy evaluation logic".

mod condition;
mod operator;
mod pattern;
mod policy;
mod principal;

use std::borrow::Cow;

pub use policy::{Invalid, Policy, decide};

/// What is to be judged.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks; `None`: nobody who is known.
    pub principal: Option<&'a Caller<'a>>,
    /// `execute-api:Invoke`.
    pub action: &'a str,
    /// An ARN.
    pub resource: &'a str,
    pub context: &'a dyn Context,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The user's, the role's or the session's.
    pub arn: &'a str,
    pub account: &'a str,
}

/// What is known of a request.
pub trait Context {
    /// The values of a condition key, whose name is in lower case; empty where the request has none.
    fn values(&self, key: &str) -> Vec<Cow<'_, str>>;
}

/// What policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it, and none denies it.
    Allowed,
    /// A statement denies it.
    Denied,
    /// Nothing is said of it: "implicitly denied".
    Silent,
}

impl<F: Fn(&str) -> Vec<Cow<'static, str>>> Context for F {
    fn values(&self, key: &str) -> Vec<Cow<'_, str>> {
        self(key)
    }
}

#[cfg(test)]
mod tests;
