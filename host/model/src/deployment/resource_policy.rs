//! Resource policies of APIs: who may invoke them, and what that means beside authorizers.
//!
//! Source: Amazon API Gateway, "How API Gateway resource policies affect authorization workflow".

use crate::iam::{Context, Decision, Invalid, Policy, Request};

/// The resource policy of an API.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourcePolicy(Policy);

/// What of a policy lets a request pass, by what else is asked who it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyUse {
    /// Nobody else decides: "an implicit denial or any explicit denial results in denying the caller".
    Alone,
    /// An authorizer decides as well, after it: "checks for any explicit denials. If found, the caller is denied access
    /// immediately".
    BeforeAuthorizer,
    /// A user pool says who it is, before it; who that may be is the policy's to say, as when it is alone.
    AfterUserPool,
}

/// What a policy comes to for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// `explicit`: a statement denies it; else none allows it.
    Deny {
        explicit: bool,
    },
}

impl ResourcePolicy {
    /// Reads a policy. `api` is the ARN of its own.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, api: &str) -> Result<Self, Invalid> {
        // "you can use the abbreviated syntax": `execute-api:/stage/GET/path`.
        let complete = |text: &str| match text.strip_prefix("execute-api:/") {
            Some(rest) => format!("{api}/{rest}"),
            None => text.to_owned(),
        };
        Policy::parse(text, complete).map(Self)
    }

    /// Judges who invokes `resource`.
    pub fn judge(&self, resource: &str, context: &dyn Context, used: PolicyUse) -> Verdict {
        match (self.decide(INVOKE, resource, context), used) {
            (Decision::Denied, _) => Verdict::Deny { explicit: true },
            (Decision::Silent, PolicyUse::Alone | PolicyUse::AfterUserPool) => {
                Verdict::Deny { explicit: false }
            }
            (Decision::Allowed, _) | (Decision::Silent, PolicyUse::BeforeAuthorizer) => {
                Verdict::Pass
            }
        }
    }

    /// What it says of another action on `resource`.
    pub fn decide(&self, action: &str, resource: &str, context: &dyn Context) -> Decision {
        self.0.decide(&Request {
            principal: None,
            action,
            resource,
            context,
        })
    }
}

/// The ARN of an API: `arn:aws:execute-api:{region}:{account}:{api}`.
pub fn api_arn(region: &str, api: &str) -> String {
    format!("arn:aws:execute-api:{region}:{ACCOUNT_ID}:{api}")
}

/// What invoking an API is called.
const INVOKE: &str = "execute-api:Invoke";
/// API Gateway's documentation writes the account of nobody so.
const ACCOUNT_ID: &str = "000000000000";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(effect: &str, resource: &str, used: PolicyUse) -> Verdict {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "{effect}", "Principal": "*",
                "Action": "execute-api:Invoke", "Resource": "{resource}"}}]}}"#
        );
        let arn = api_arn("local", "api");
        let policy = ResourcePolicy::parse(&text, &arn).unwrap();
        let resource = format!("{arn}/prod/GET/pets/7");
        let nothing = |_: &str| Vec::new();
        policy.judge(&resource, &nothing, used)
    }

    #[test]
    fn a_policy_and_an_authorizer_come_to_what_the_services_tables_say() {
        use PolicyUse::{AfterUserPool, Alone, BeforeAuthorizer};
        let implicit = Verdict::Deny { explicit: false };
        let explicit = Verdict::Deny { explicit: true };
        let cases = [
            ("Allow", "execute-api:/*", Alone, Verdict::Pass),
            ("Allow", "execute-api:/*", BeforeAuthorizer, Verdict::Pass),
            ("Allow", "execute-api:/*", AfterUserPool, Verdict::Pass),
            ("Allow", "execute-api:/dev/*", Alone, implicit),
            (
                "Allow",
                "execute-api:/dev/*",
                BeforeAuthorizer,
                Verdict::Pass,
            ),
            ("Allow", "execute-api:/dev/*", AfterUserPool, implicit),
            ("Deny", "execute-api:/prod/GET/*", Alone, explicit),
            (
                "Deny",
                "execute-api:/prod/GET/*",
                BeforeAuthorizer,
                explicit,
            ),
            ("Deny", "execute-api:/prod/GET/*", AfterUserPool, explicit),
            ("Deny", "execute-api:/prod/POST/*", Alone, implicit),
            (
                "Allow",
                "arn:aws:execute-api:local:000000000000:api/*",
                Alone,
                Verdict::Pass,
            ),
            (
                "Allow",
                "arn:aws:execute-api:local:111122223333:api/*",
                Alone,
                implicit,
            ),
        ];
        for (effect, resource, used, expected) in cases {
            assert_eq!(
                judged(effect, resource, used),
                expected,
                "{effect} {resource} {used:?}"
            );
        }
    }
}
