//! Header fields: which names and values a message may carry, and which a plugin may not touch.

/// A field name in lower case, as the host keeps them.
///
/// # Errors
///
/// The name is no token (RFC 9110 section 5.6.2).
pub fn name(name: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("\"{name}\" is no name of a header field"));
    }
    Ok(name.to_ascii_lowercase())
}

/// As [`name`], of a field that an edit or a response of one's own may name.
///
/// # Errors
///
/// It is no token, or belongs to the connection (RFC 9110 section 7.6.1) or to the body's framing, which are the host's.
pub fn own_name(text: &str) -> Result<String, String> {
    let name = name(text)?;
    match HOSTS.contains(&name.as_str()) {
        true => Err(format!(
            "the field \"{name}\" belongs to the connection; only the node sets it"
        )),
        false => Ok(name),
    }
}

/// The text, as a field value may hold it.
///
/// # Errors
///
/// It holds a control character (RFC 9110 section 5.5).
pub fn check_value(text: &str) -> Result<&str, String> {
    match text.chars().any(is_unfit) {
        true => Err("a header field's value must hold no control characters".into()),
        false => Ok(text),
    }
}

/// Appends a value that came with the request, without what a field value must not hold: a decoded parameter can bring
/// line ends along.
pub fn push_value(value: &str, into: &mut String) {
    into.extend(value.chars().filter(|&char| !is_unfit(char)));
}

fn is_unfit(char: char) -> bool {
    char != '\t' && char.is_ascii_control()
}

const HOSTS: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_in_lower_case() {
        assert_eq!(name("X-Api-Key"), Ok("x-api-key".into()));
        for text in ["", "a b", "a:", "é", "a\n"] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_connections_fields_are_the_nodes() {
        assert_eq!(own_name("Host"), Ok("host".into()));
        for name in ["Connection", "TE", "content-length"] {
            assert!(own_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_value_never_carries_a_line_end() {
        assert!(check_value("a\tb").is_ok());
        assert!(check_value("a\r\nx: y").is_err());
        let mut value = String::new();
        push_value("a\r\nx:\u{7f} é", &mut value);
        assert_eq!(value, "ax: é");
    }
}
