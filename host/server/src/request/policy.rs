//! What policies say of a request: the API's resource policy, and what an authorizer lets its caller do beside invoking.

use std::borrow::Cow;
use std::time::SystemTime;

use tidegate_model::deployment::{PolicyUse, Route, Verdict};
use tidegate_model::iam::{Context, Decision, Policy, Request};

use super::{Exchange, GatewayError};

/// Holds the request against the API's resource policy, where it has one and it is to be asked at this point.
///
/// # Errors
/// 403, in the service's words.
pub fn admit(route: &Route, exchange: &Exchange, before: bool) -> Result<(), GatewayError> {
    let Some(policy) = &exchange.stage.resource_policy else {
        return Ok(());
    };
    if before == (route.policy_use == PolicyUse::AfterUserPool) {
        return Ok(());
    }
    let method = exchange.head.method.as_str();
    let resource = exchange.stage.resource(method, exchange.matched_path());
    match policy.judge(&resource, exchange, route.policy_use) {
        Verdict::Pass => Ok(()),
        Verdict::Deny { explicit } => Err(GatewayError::DeniedByPolicy { resource, explicit }),
    }
}

/// Whether the caller may have a stored response replaced: where the policy that its authorizer gave, or the API's own, allows
/// `execute-api:InvalidateCache`, and neither denies it.
///
/// Source: Amazon API Gateway, "Invalidate an API Gateway cache entry".
pub fn may_invalidate(exchange: &Exchange) -> bool {
    let principal = exchange.account.principal.as_ref();
    let given = |name: &str| {
        let context = &principal?.context;
        let entry = context.iter().find(|(key, _)| key == name);
        entry.map(|(_, value)| value.as_str())
    };
    let resource_policy = exchange.stage.resource_policy.as_ref();
    let stage = &exchange.stage;
    let resource = stage.resource(exchange.head.method.as_str(), exchange.matched_path());
    let own = match given(POLICY_DOCUMENT).map(|text| Policy::parse(text, str::to_owned)) {
        None => Decision::Silent,
        Some(Ok(policy)) => policy.decide(&Request {
            principal: None,
            action: INVALIDATE_CACHE,
            resource: &resource,
            context: exchange,
        }),
        Some(Err(invalid)) => {
            let stage = &stage.scope;
            tracing::warn!(stage, %invalid, "an authorizer's policyDocument is none: it allows nothing");
            Decision::Denied
        }
    };
    let of_api = resource_policy.map_or(Decision::Silent, |policy| {
        policy.decide(INVALIDATE_CACHE, &resource, exchange)
    });
    let allowed = own == Decision::Allowed
        || of_api == Decision::Allowed
        || given(INVALIDATE_CACHE) == Some("Allow");
    allowed && own != Decision::Denied && of_api != Decision::Denied
}

/// What conditions can ask of a request.
///
/// Source: AWS IAM, "AWS global condition context keys"; Amazon API Gateway, "AWS condition keys that can be used in API
/// Gateway resource policies".
impl Context for Exchange {
    fn values(&self, key: &str) -> Vec<Cow<'_, str>> {
        let one = |text: String| vec![Cow::Owned(text)];
        let field = |name| {
            let value = tidegate_sandbox::exchange::field(&self.head.headers, name);
            value.into_iter().collect()
        };
        let address = || one(self.viewer.peer.ip().to_canonical().to_string());
        let private = self.viewer.private.as_ref();
        match key {
            // "aws:SourceIp … not … for private APIs", which have aws:VpcSourceIp instead.
            "aws:sourceip" if private.is_none() => address(),
            "aws:vpcsourceip" if private.is_some() => address(),
            "aws:sourcevpce" => private
                .map(|private| Cow::Borrowed(private.name.as_str()))
                .into_iter()
                .collect(),
            "aws:securetransport" => one(self.viewer.tls.to_string()),
            // Date operators take either form.
            "aws:currenttime" | "aws:epochtime" => one(seconds(self.began_at).to_string()),
            "aws:useragent" => field("user-agent"),
            "aws:referer" => field("referer"),
            _ => Vec::new(),
        }
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The action, and a key of an authorizer's context that says "Allow" where a whole policy is too much.
const INVALIDATE_CACHE: &str = "execute-api:InvalidateCache";
/// The key of an authorizer's context that has its policy, as in a Lambda authorizer's output.
const POLICY_DOCUMENT: &str = "policyDocument";
