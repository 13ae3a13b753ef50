use crate::field;
use crate::types::Reading;

/// Reads an expression as API Gateway writes it: `$request.header.NAME`, `$request.querystring.NAME`,
/// `$request.path.NAME`, `$request.path`, `$request.method`, `$request.querystring`, `$stageVariables.NAME`,
/// `$context.NAME`.
///
/// # Errors
///
/// A sentence on what is wrong, without its place.
///
/// Source: Amazon API Gateway, "Transform API requests and responses for HTTP APIs".
pub fn parse_expression(text: &str) -> Result<Reading, String> {
    match text.strip_prefix('$') {
        Some(name) => parse_reading(name),
        None => Err(format!(
            "\"{text}\" is no expression: it must start with `$`, as in `$request.header.name`"
        )),
    }
}

/// As [`parse_expression`], of what stands after the `$`.
pub fn parse_reading(name: &str) -> Result<Reading, String> {
    match name {
        "request.method" => return Ok(Reading::Method),
        "request.path" => return Ok(Reading::Path),
        "request.querystring" => return Ok(Reading::QueryString),
        _ => {}
    }
    if let Some(name) = name.strip_prefix("request.header.") {
        return field::name(name).map(Reading::Header);
    }
    let (make, name): (fn(String) -> Reading, &str) =
        if let Some(name) = name.strip_prefix("request.querystring.") {
            (Reading::QueryParameter, name)
        } else if let Some(name) = name.strip_prefix("request.path.") {
            (Reading::PathParameter, name)
        } else if let Some(name) = name.strip_prefix("stageVariables.") {
            (Reading::StageVariable, name)
        } else if let Some(name) = name.strip_prefix("context.") {
            (Reading::Context, name)
        } else {
            return Err(format!(
                "there is no variable `${name}`; there are {VARIABLES}"
            ));
        };
    if name.is_empty() {
        return Err("a variable's name is missing after the last dot".into());
    }
    Ok(make(name.to_string()))
}

const VARIABLES: &str = "$request.header.NAME, $request.querystring.NAME, $request.path.NAME, $request.path, \
     $request.method, $request.querystring, $stageVariables.NAME and $context.NAME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_names_a_reading() {
        let cases = [
            ("$request.method", Reading::Method),
            ("$request.path", Reading::Path),
            ("$request.querystring", Reading::QueryString),
            (
                "$request.header.X-Api-Key",
                Reading::Header("x-api-key".into()),
            ),
            (
                "$request.querystring.Key",
                Reading::QueryParameter("Key".into()),
            ),
            (
                "$request.path.proxy",
                Reading::PathParameter("proxy".into()),
            ),
            (
                "$stageVariables.table",
                Reading::StageVariable("table".into()),
            ),
            (
                "$context.identity.sourceIp",
                Reading::Context("identity.sourceIp".into()),
            ),
        ];
        for (text, reading) in cases {
            assert_eq!(parse_expression(text), Ok(reading), "{text}");
        }
    }

    #[test]
    fn what_names_no_reading_is_refused() {
        let cases = [
            "",
            "$",
            "request.path",
            "$request",
            "$request.body",
            "$request.header.",
            "$request.header.a b",
            "$context.",
            "$stagevariables.a",
            "$$request.path",
        ];
        for text in cases {
            assert!(parse_expression(text).is_err(), "{text}");
        }
    }
}
