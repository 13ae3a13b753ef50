//! Items: JSON objects with an id.

use serde_json::{Map, Value};

use crate::call::Reply;

/// An item and its id.
#[derive(Debug, PartialEq)]
pub struct Item {
    pub id: String,
    pub value: Value,
}

/// The item of a body that is to be created; `make_id` is asked where it has no id.
///
/// # Errors
///
/// The answer to a body that is no item.
pub fn new(body: &[u8], make_id: impl FnOnce() -> String) -> Result<Item, Reply> {
    let members = read(body)?;
    let id = match members.get("id") {
        None | Some(Value::Null) => make_id(),
        Some(Value::String(id)) if is_id(id) => id.clone(),
        Some(_) => {
            return Err(Reply::error(
                400,
                "the id must be 1 to 256 octets of visible text",
            ));
        }
    };
    Ok(with_id(members, id))
}

/// The item of a body that is to be written under `id`.
///
/// # Errors
///
/// The answer to a body that is no item, or the item of another id.
pub fn of(body: &[u8], id: String) -> Result<Item, Reply> {
    let members = read(body)?;
    match members.get("id") {
        None | Some(Value::Null) => Ok(with_id(members, id)),
        Some(Value::String(own)) if *own == id => Ok(with_id(members, id)),
        Some(_) => Err(Reply::error(400, "the item's id is not that of the path")),
    }
}

/// Whether this can be an id: a key of the table, and readable in a path.
pub fn is_id(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Reply::error(400, "an item must be a JSON object")),
        Err(error) => Err(Reply::error(400, format!("the body is no JSON: {error}"))),
    }
}

fn with_id(mut members: Map<String, Value>, id: String) -> Item {
    members.insert("id".into(), Value::String(id.clone()));
    Item {
        id,
        value: Value::Object(members),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_without_an_id_gets_one() {
        let item = new(br#"{"name": "lamp"}"#, || "made".into()).unwrap();
        assert_eq!(item.value, json!({"id": "made", "name": "lamp"}));
        let item = new(br#"{"id": "own"}"#, || unreachable!()).unwrap();
        assert_eq!(item.id, "own");
    }

    #[test]
    fn a_replaced_item_keeps_the_id_of_its_path() {
        assert_eq!(of(b"{}", "a".into()).unwrap().value, json!({"id": "a"}));
        assert!(of(br#"{"id": "a"}"#, "a".into()).is_ok());
        assert_eq!(of(br#"{"id": "b"}"#, "a".into()).unwrap_err().status, 400);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"id": ""}"#,
            r#"{"id": 7}"#,
            "{\"id\": \"\\n\"}",
        ] {
            assert_eq!(
                new(body.as_bytes(), || "x".into()).unwrap_err().status,
                400,
                "{body}"
            );
        }
    }
}
