//! Whom a statement is about.

use serde_json::Value;

use super::Caller;

/// `Principal`, without the `Not`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principals {
    /// `"*"`: whoever it is, also nobody who is known.
    Everyone,
    Some(Vec<Principal>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// All of an account.
    Account(String),
    Arn(String),
    /// A service, a federation, or a canonical user: nobody of these calls a gateway.
    Other,
}

impl Principals {
    /// Reads the element.
    ///
    /// # Errors
    /// A sentence on what it is not.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let kinds = match value {
            Value::String(text) if text == "*" => return Ok(Self::Everyone),
            Value::Object(kinds) if !kinds.is_empty() => kinds,
            _ => return Err("is neither \"*\" nor an object with principals".to_owned()),
        };
        let mut principals = Vec::new();
        for (kind, values) in kinds {
            let values = match values {
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for value in values {
                let Some(text) = value.as_str() else {
                    return Err(format!("has a {kind} that is no text"));
                };
                match kind.as_str() {
                    "AWS" if text == "*" => return Ok(Self::Everyone),
                    "AWS" => principals.push(Principal::parse(text)?),
                    "Service" | "Federated" | "CanonicalUser" => principals.push(Principal::Other),
                    _ => {
                        let known = "AWS, Service, Federated and CanonicalUser";
                        return Err(format!("has \"{kind}\", which is none of {known}"));
                    }
                }
            }
        }
        Ok(Self::Some(principals))
    }

    /// Whether it is about who asks.
    pub fn mean(&self, caller: Option<&Caller<'_>>) -> bool {
        match (self, caller) {
            (Self::Everyone, _) => true,
            (Self::Some(_), None) => false,
            (Self::Some(principals), Some(caller)) => {
                principals.iter().any(|principal| match principal {
                    Principal::Account(account) => account == caller.account,
                    Principal::Arn(arn) => arn == caller.arn,
                    Principal::Other => false,
                })
            }
        }
    }
}

impl Principal {
    /// An account's number, its root's ARN, or the ARN of one principal: there are no wildcards here.
    fn parse(text: &str) -> Result<Self, String> {
        let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, "iam", "", account, "root"] => Ok(Self::Account((*account).to_owned())),
            ["arn", _, "iam" | "sts", "", _, name] if !name.contains('*') => {
                Ok(Self::Arn(text.to_owned()))
            }
            _ => Err(format!(
                "has \"{text}\", which is no account and no principal's ARN"
            )),
        }
    }
}
