//! The variables of `$context`.
//!
//! Source: Amazon API Gateway, "Variables for data models, authorizers, mapping templates, and CloudWatch access
//! logging"; for HTTP APIs "Customize HTTP API access logs".

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::exchange::Exchange;

/// A variable by its name without `$context.`, `None` where it has no value (yet).
pub fn variable<'a>(exchange: &'a Exchange, name: &str) -> Option<Cow<'a, str>> {
    let known = |text: &'a str| Some(Cow::Borrowed(text));
    let made = |text: String| Some(Cow::Owned(text));
    let account = &exchange.account;
    match name {
        "accountId" => known(ACCOUNT_ID),
        "apiId" => known(&exchange.stage.api_id),
        "stage" => known(&exchange.stage.name),
        "deploymentId" => known(&exchange.stage.deployment_id),
        "requestId" | "extendedRequestId" => known(exchange.id.as_str()),
        "httpMethod" => known(exchange.head.method.as_str()),
        "path" => known(exchange.head.uri.path()),
        "protocol" => known(exchange.protocol()),
        "domainName" => exchange
            .host()
            .map(|host| Cow::Borrowed(without_port(host))),
        "domainPrefix" => exchange
            .host()
            .and_then(|host| host.split('.').next())
            .map(Cow::Borrowed),
        "resourcePath" => exchange
            .route()
            .map(|route| Cow::Borrowed(route.resource_path.as_str())),
        "routeKey" => exchange
            .route()
            .map(|route| Cow::Borrowed(route.key.as_str())),
        "requestTime" => made(common_log_time(exchange.began_at)),
        "requestTimeEpoch" => made(since_epoch(exchange.began_at).as_millis().to_string()),
        "identity.sourceIp" => made(exchange.viewer.peer.ip().to_canonical().to_string()),
        "identity.userAgent" => {
            tidegate_sandbox::exchange::field(&exchange.head.headers, "user-agent")
        }
        "identity.apiKeyId" => account
            .principal
            .as_ref()?
            .usage_identifier_key
            .as_deref()
            .map(Cow::Borrowed),
        "status" => account
            .status
            .map(|status| Cow::Owned(status.as_u16().to_string())),
        "responseLength" => account
            .response_bytes
            .map(|bytes| Cow::Owned(bytes.to_string())),
        "responseLatency" => account.latency.map(milliseconds),
        "integration.status" | "integrationStatus" => account
            .integration_status
            .map(|status| Cow::Owned(status.as_u16().to_string())),
        "integration.latency" | "integrationLatency" => {
            account.integration_latency.map(milliseconds)
        }
        "integration.error" | "integrationErrorMessage" => {
            account.integration_error.as_deref().map(Cow::Borrowed)
        }
        "error.message" => account.error_message.as_deref().map(Cow::Borrowed),
        "error.messageString" => account
            .error_message
            .as_ref()
            .map(|message| Cow::Owned(format!("{message:?}"))),
        "error.responseType" => account.error_type.map(Cow::Borrowed),
        _ => authorizer(exchange, name.strip_prefix("authorizer.")?),
    }
}

fn authorizer<'a>(exchange: &'a Exchange, key: &str) -> Option<Cow<'a, str>> {
    let principal = exchange.account.principal.as_ref()?;
    if key == "principalId" {
        return Some(Cow::Borrowed(&principal.id));
    }
    principal
        .context
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| Cow::Borrowed(value.as_str()))
}

fn milliseconds(duration: Duration) -> Cow<'static, str> {
    Cow::Owned(duration.as_millis().to_string())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// `24/Nov/2026:02:18:04 +0000`, by the calendar of days (Hinnant, "chrono-compatible low-level date algorithms").
fn common_log_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = since_epoch(time).as_secs();
    let days = seconds / 86_400 + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12; // 0 is January
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{day:02}/{}/{year}:{hour:02}:{minute:02}:{second:02} +0000",
        MONTHS[month as usize]
    )
}

/// API Gateway's documentation writes the account of nobody so.
const ACCOUNT_ID: &str = "000000000000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_times_are_in_the_common_log_format() {
        let cases = [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (951_827_696, "29/Feb/2000:12:34:56 +0000"),
            (1_795_486_684, "24/Nov/2026:02:18:04 +0000"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(
                common_log_time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
                expected
            );
        }
    }

    #[test]
    fn a_host_is_named_without_its_port() {
        for (host, expected) in [
            ("a.example:8080", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
