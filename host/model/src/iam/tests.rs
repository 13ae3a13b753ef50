use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What is known of the request of the examples.
fn context(key: &str) -> Vec<Cow<'static, str>> {
    let values: &[&'static str] = match key {
        "aws:sourceip" => &["192.0.2.7"],
        "aws:sourcevpce" => &["internal"],
        "aws:username" => &["ann"],
        "aws:securetransport" => &["true"],
        "aws:currenttime" => &["2024-05-01T12:00:00Z"],
        "aws:principalarn" => &["arn:aws:iam::111122223333:user/ann"],
        "aws:tagkeys" => &["team", "env"],
        "aws:multifactorauthage" => &["120"],
        "s:bytes" => &["aGVsbG8="],
        "s:v6" => &["2001:db8:1234:5678::9"],
        _ => &[],
    };
    values.iter().map(|value| (*value).into()).collect()
}

const ANN: Caller<'static> = Caller {
    arn: "arn:aws:iam::111122223333:user/ann",
    account: "111122223333",
};
const RESOURCE: &str = "arn:aws:execute-api:eu-west-1:111122223333:a1b2/prod/GET/pets/7";

fn decide_by(policy: &serde_json::Value, principal: Option<&Caller<'_>>) -> Decision {
    let policy =
        Policy::read(policy, |text| text.into()).unwrap_or_else(|invalid| panic!("{invalid}"));
    policy.decide(&Request {
        principal,
        action: "execute-api:Invoke",
        resource: RESOURCE,
        context: &context,
    })
}

/// What one statement that allows says to Ann.
fn allows(more: serde_json::Value) -> bool {
    let mut statement = json!({
        "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "*",
    });
    for (key, value) in more.as_object().unwrap() {
        match value.is_null() {
            true => drop(statement.as_object_mut().unwrap().remove(key)),
            false => statement[key] = value.clone(),
        }
    }
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
    decide_by(&policy, Some(&ANN)) == Decision::Allowed
}

#[test]
fn a_statement_is_about_its_actions_resources_and_principals() {
    let arn = "arn:aws:execute-api:eu-west-1:111122223333:a1b2";
    let cases = [
        (json!({}), true),
        (json!({ "Action": "execute-api:*" }), true),
        (json!({ "Action": "EXECUTE-API:invoke" }), true),
        (json!({ "Action": ["s3:*", "execute-api:In?oke"] }), true),
        (json!({ "Action": "execute-api:InvalidateCache" }), false),
        (
            json!({ "Action": null, "NotAction": "execute-api:InvalidateCache" }),
            true,
        ),
        (
            json!({ "Action": null, "NotAction": "execute-api:*" }),
            false,
        ),
        (json!({ "Resource": format!("{arn}/prod/*") }), true),
        (json!({ "Resource": format!("{arn}/*/GET/pets/?") }), true),
        (json!({ "Resource": format!("{arn}/PROD/*") }), false),
        (
            json!({ "Resource": [format!("{arn}/dev/*"), format!("{arn}/prod/POST/*")] }),
            false,
        ),
        (
            json!({ "Resource": null, "NotResource": format!("{arn}/dev/*") }),
            true,
        ),
        (
            json!({ "Resource": null, "NotResource": format!("{arn}/*") }),
            false,
        ),
        (json!({ "Principal": { "AWS": "*" } }), true),
        (json!({ "Principal": { "AWS": "111122223333" } }), true),
        (
            json!({ "Principal": { "AWS": "arn:aws:iam::111122223333:root" } }),
            true,
        ),
        (
            json!({ "Principal": { "AWS": ["444455556666", ANN.arn] } }),
            true,
        ),
        (
            json!({ "Principal": { "AWS": "arn:aws:iam::111122223333:user/bob" } }),
            false,
        ),
        (
            json!({ "Principal": { "Service": "apigateway.amazonaws.com" } }),
            false,
        ),
        (json!({ "Principal": null }), true),
    ];
    for (statement, expected) in cases {
        assert_eq!(allows(statement.clone()), expected, "{statement}");
    }
}

#[test]
fn nobody_in_particular_is_everyone_and_no_account() {
    let policy = |principal: serde_json::Value| {
        json!({ "Statement": {
            "Effect": "Allow", "Principal": principal, "Action": "*", "Resource": "*",
        }})
    };
    let cases = [
        (json!("*"), Decision::Allowed),
        (json!({ "AWS": "*" }), Decision::Allowed),
        (json!({ "AWS": "111122223333" }), Decision::Silent),
    ];
    for (principal, expected) in cases {
        assert_eq!(
            decide_by(&policy(principal.clone()), None),
            expected,
            "{principal}"
        );
    }
    let denied = json!({ "Statement": {
        "Effect": "Deny", "NotPrincipal": { "AWS": ANN.arn }, "Action": "*", "Resource": "*",
    }});
    assert_eq!(decide_by(&denied, None), Decision::Denied);
    assert_eq!(decide_by(&denied, Some(&ANN)), Decision::Silent);
}

#[test]
fn conditions_compare_as_their_operators_say() {
    let cases = [
        (json!({ "StringEquals": { "aws:username": "ann" } }), true),
        (
            json!({ "StringEquals": { "AWS:UserName": ["bob", "ann"] } }),
            true,
        ),
        (json!({ "StringEquals": { "aws:username": "a*" } }), false),
        (json!({ "StringEquals": { "aws:username": "Ann" } }), false),
        (
            json!({ "StringEqualsIgnoreCase": { "aws:username": "ANN" } }),
            true,
        ),
        (
            json!({ "StringNotEquals": { "aws:username": ["bob", "eve"] } }),
            true,
        ),
        (
            json!({ "StringNotEquals": { "aws:username": ["bob", "ann"] } }),
            false,
        ),
        (
            json!({ "StringNotEqualsIgnoreCase": { "aws:username": "ANN" } }),
            false,
        ),
        (json!({ "StringLike": { "aws:username": "a?*" } }), true),
        (json!({ "StringNotLike": { "aws:username": "a*" } }), false),
        (
            json!({ "StringLike": { "aws:principalarn": "*:user/${aws:username}" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:username": "${aws:nobody}" } }),
            false,
        ),
        (
            json!({ "StringNotEquals": { "aws:username": "${aws:nobody}" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:username": "${aws:nobody, 'ann'}" } }),
            true,
        ),
        // Keys that the request does not have.
        (json!({ "StringEquals": { "aws:nothing": "x" } }), false),
        (json!({ "StringNotEquals": { "aws:nothing": "x" } }), true),
        (
            json!({ "StringEqualsIfExists": { "aws:nothing": "x" } }),
            true,
        ),
        (
            json!({ "StringEqualsIfExists": { "aws:username": "x" } }),
            false,
        ),
        (json!({ "Null": { "aws:nothing": "true" } }), true),
        (json!({ "Null": { "aws:nothing": false } }), false),
        (json!({ "Null": { "aws:username": "false" } }), true),
        // Numbers, dates, truth, bytes.
        (
            json!({ "NumericLessThan": { "aws:multifactorauthage": "300" } }),
            true,
        ),
        (
            json!({ "NumericLessThanEquals": { "aws:multifactorauthage": 120 } }),
            true,
        ),
        (
            json!({ "NumericGreaterThan": { "aws:multifactorauthage": 120 } }),
            false,
        ),
        (
            json!({ "NumericGreaterThanEquals": { "aws:multifactorauthage": 120.0 } }),
            true,
        ),
        (
            json!({ "NumericEquals": { "aws:multifactorauthage": ["1", "120"] } }),
            true,
        ),
        (
            json!({ "NumericNotEquals": { "aws:multifactorauthage": "120" } }),
            false,
        ),
        (json!({ "NumericEquals": { "aws:username": "1" } }), false),
        (
            json!({ "DateGreaterThan": { "aws:currenttime": "2024-04-01T00:00:00Z" } }),
            true,
        ),
        (
            json!({ "DateLessThan": { "aws:currenttime": "2024-04-01T00:00:00Z" } }),
            false,
        ),
        (
            json!({ "DateLessThan": { "aws:currenttime": "2024-06-30T23:59:59+02:00" } }),
            true,
        ),
        (
            json!({ "DateLessThanEquals": { "aws:currenttime": "2024-06-30" } }),
            true,
        ),
        (
            json!({ "DateGreaterThanEquals": { "aws:currenttime": "1714564800" } }),
            true,
        ),
        (
            json!({ "DateEquals": { "aws:currenttime": "2024-05-01T12:00:00Z" } }),
            true,
        ),
        (
            json!({ "DateNotEquals": { "aws:currenttime": "2024-05-01T12:00:00Z" } }),
            false,
        ),
        (json!({ "Bool": { "aws:securetransport": "true" } }), true),
        (json!({ "Bool": { "aws:securetransport": false } }), false),
        (json!({ "BoolIfExists": { "aws:nothing": true } }), true),
        (json!({ "BinaryEquals": { "s:bytes": "aGVsbG8=" } }), true),
        // Addresses.
        (
            json!({ "IpAddress": { "aws:SourceIp": "192.0.2.0/24" } }),
            true,
        ),
        (
            json!({ "IpAddress": { "aws:SourceIp": ["198.51.100.0/24", "192.0.2.7"] } }),
            true,
        ),
        (
            json!({ "IpAddress": { "aws:SourceIp": "198.51.100.0/24" } }),
            false,
        ),
        (
            json!({ "NotIpAddress": { "aws:SourceIp": ["198.51.100.0/24"] } }),
            true,
        ),
        (
            json!({ "NotIpAddress": { "aws:SourceIp": ["192.0.2.0/24", "198.51.100.0/24"] } }),
            false,
        ),
        (
            json!({ "IpAddress": { "s:v6": "2001:DB8:1234:5678::/64" } }),
            true,
        ),
        (
            json!({ "IpAddress": { "aws:username": "0.0.0.0/0" } }),
            false,
        ),
        // ARNs.
        (
            json!({ "ArnLike": { "aws:principalarn": "arn:aws:iam::*:user/*" } }),
            true,
        ),
        (
            json!({ "ArnEquals": { "aws:principalarn": "arn:aws:iam::111122223333:user/a*" } }),
            true,
        ),
        (
            json!({ "ArnLike": { "aws:principalarn": "arn:aws:*:user/ann" } }),
            false,
        ),
        (
            json!({ "ArnNotLike": { "aws:principalarn": "arn:aws:iam::*:role/*" } }),
            true,
        ),
        // Several values.
        (
            json!({ "ForAllValues:StringEquals": { "aws:tagkeys": ["team", "env", "cost"] } }),
            true,
        ),
        (
            json!({ "ForAllValues:StringEquals": { "aws:tagkeys": ["team"] } }),
            false,
        ),
        (
            json!({ "ForAllValues:StringEquals": { "aws:nothing": ["team"] } }),
            true,
        ),
        (
            json!({ "ForAnyValue:StringEquals": { "aws:tagkeys": ["team", "cost"] } }),
            true,
        ),
        (
            json!({ "ForAnyValue:StringEquals": { "aws:tagkeys": ["cost"] } }),
            false,
        ),
        (
            json!({ "ForAnyValue:StringEquals": { "aws:nothing": ["cost"] } }),
            false,
        ),
        (
            json!({ "ForAllValues:StringNotEquals": { "aws:tagkeys": ["cost"] } }),
            true,
        ),
        (
            json!({ "ForAnyValue:StringNotEquals": { "aws:tagkeys": ["team"] } }),
            true,
        ),
        (
            json!({ "ForAnyValue:StringLikeIfExists": { "aws:nothing": "x" } }),
            true,
        ),
        // All operators, and all keys of each, have to hold.
        (
            json!({
                "StringEquals": { "aws:username": "ann", "aws:sourcevpce": "internal" },
                "Bool": { "aws:securetransport": "true" },
            }),
            true,
        ),
        (
            json!({
                "StringEquals": { "aws:username": "ann", "aws:sourcevpce": "other" },
                "Bool": { "aws:securetransport": "true" },
            }),
            false,
        ),
    ];
    for (condition, expected) in cases {
        assert_eq!(
            allows(json!({ "Condition": condition })),
            expected,
            "{condition}"
        );
    }
}

#[test]
fn variables_are_text_in_the_older_version() {
    let policy = |version: &str| {
        json!({ "Version": version, "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": { "StringEquals": { "aws:username": "${aws:username}" } },
        }})
    };
    assert_eq!(
        decide_by(&policy("2012-10-17"), Some(&ANN)),
        Decision::Allowed
    );
    assert_eq!(
        decide_by(&policy("2008-10-17"), Some(&ANN)),
        Decision::Silent
    );
}

/// Source: Amazon API Gateway, "API Gateway resource policy examples".
#[test]
fn the_services_examples_come_to_what_it_says_of_them() {
    let statement = |effect: &str, condition: serde_json::Value| {
        json!({
            "Effect": effect, "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": ["arn:aws:execute-api:eu-west-1:111122223333:a1b2/*"], "Condition": condition,
        })
    };
    let range = |operator: &str, network: &str| json!({ operator: { "aws:SourceIp": [network] } });
    let endpoint = |operator: &str, name: &str| json!({ operator: { "aws:SourceVpce": name } });
    let everyone = || statement("Allow", json!({}));
    let cases = [
        // "Deny API traffic based on source IP address or range"
        (
            vec![
                everyone(),
                statement("Deny", range("IpAddress", "192.0.2.0/24")),
            ],
            Decision::Denied,
        ),
        (
            vec![
                everyone(),
                statement("Deny", range("IpAddress", "198.51.100.0/24")),
            ],
            Decision::Allowed,
        ),
        (
            vec![
                everyone(),
                statement("Deny", range("NotIpAddress", "192.0.2.0/24")),
            ],
            Decision::Allowed,
        ),
        // "Allow private API traffic based on source VPC or VPC endpoint"
        (
            vec![
                everyone(),
                statement("Deny", endpoint("StringNotEquals", "internal")),
            ],
            Decision::Allowed,
        ),
        (
            vec![
                everyone(),
                statement("Deny", endpoint("StringNotEquals", "other")),
            ],
            Decision::Denied,
        ),
        (
            vec![statement("Allow", endpoint("StringEquals", "internal"))],
            Decision::Allowed,
        ),
        (
            vec![statement("Allow", endpoint("StringEquals", "other"))],
            Decision::Silent,
        ),
        (vec![], Decision::Silent),
    ];
    for (statements, expected) in cases {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        assert_eq!(decide_by(&policy, None), expected, "{policy}");
    }
}

#[test]
fn all_that_is_wrong_with_a_document_is_said() {
    let cases = [
        ("", "it is no JSON"),
        ("[]", "it is no object"),
        ("{}", "Statement is missing"),
        (
            r#"{"Version": "2020", "Statement": []}"#,
            "Version is neither",
        ),
        (
            r#"{"Statment": [], "Statement": []}"#,
            "\"Statment\" is no element; did you mean \"Statement\"?",
        ),
        (r#"{"Statement": [1]}"#, "statement 1: it is no object"),
        (
            r#"{"Statement": [{"Effect": "allow"}]}"#,
            "Effect is neither Allow nor Deny",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow"}]}"#,
            "Action is missing",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": 1}]}"#,
            "Action is neither text",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "NotAction": "b"}]}"#,
            "both Action and NotAction",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Resource": []}]}"#,
            "Resource is neither",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Conditon": {}}]}"#,
            "did you mean \"Condition\"?",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Principal": "me"}]}"#,
            "Principal is neither",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Principal": {"AWS": "a*"}}]}"#,
            "\"a*\", which is no account",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "NotPrincipal": {"AWS": "111122223333"}}]}"#,
            "everybody else",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"StringIs": {}}}]}"#,
            "no operator",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"NullIfExists": {"k": true}}}]}"#,
            "no operator",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"IpAddress": {"k": "1.2.3"}}}]}"#,
            "\"1.2.3\" is no address",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"NumericEquals": {"k": "x"}}}]}"#,
            "\"x\" is no number",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"DateEquals": {"k": "soon"}}}]}"#,
            "\"soon\" is no date",
        ),
        (
            r#"{"Statement": [{"Effect": "Allow", "Action": "a", "Condition": {"Bool": {"k": []}}}]}"#,
            "has no value",
        ),
    ];
    for (text, expected) in cases {
        let invalid = Policy::parse(text, |text| text.into())
            .unwrap_err()
            .to_string();
        assert!(invalid.contains(expected), "{text}: {invalid}");
    }
    let long = format!("{{\"Id\": \"{}\"}}", "x".repeat(40_000));
    assert!(Policy::parse(&long, |text| text.into()).is_err());
}

proptest! {
    #[test]
    fn a_denial_wins_wherever_it_stands(effects in prop::collection::vec((any::<bool>(), any::<bool>()), 0..8)) {
        let statements: Vec<_> = effects
            .iter()
            .map(|(denies, meant)| json!({
                "Effect": if *denies { "Deny" } else { "Allow" },
                "Action": if *meant { "execute-api:*" } else { "s3:*" },
                "Resource": "*",
            }))
            .collect();
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        let expected = match (effects.contains(&(true, true)), effects.contains(&(false, true))) {
            (true, _) => Decision::Denied,
            (false, true) => Decision::Allowed,
            (false, false) => Decision::Silent,
        };
        prop_assert_eq!(decide_by(&policy, Some(&ANN)), expected);
        // Also in documents of their own.
        let policies: Vec<_> = statements
            .iter()
            .map(|statement| Policy::read(&json!({ "Statement": statement }), |text| text.into()).unwrap())
            .collect();
        let request = Request { principal: None, action: "execute-api:Invoke", resource: RESOURCE, context: &context };
        prop_assert_eq!(decide(&policies, &request), expected);
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(at in 0usize..400, piece in "[ -~]{0,8}") {
        let whole = json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "a", "Effect": "Allow", "Principal": { "AWS": "111122223333" }, "NotAction": ["a:b", "c:*"],
            "Resource": "arn:aws:execute-api:eu-west-1:111122223333:a1b2/*",
            "Condition": { "ForAllValues:StringLikeIfExists": { "aws:TagKeys": ["${aws:username, 'x'}", "?"] } },
        }]}).to_string();
        let at = at % whole.len();
        let end = (at + piece.len()).min(whole.len());
        if let Ok(policy) = Policy::parse(&format!("{}{piece}{}", &whole[..at], &whole[end..]), |text| text.into()) {
            let request = Request { principal: None, action: "a:b", resource: "r", context: &context };
            let _ = policy.decide(&request);
        }
    }
}
