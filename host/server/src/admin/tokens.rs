//! `PUT /tidegate/v1/nodes/tokens`: a token by which one node can join.
//!
//! `?role=edge` (or `origin`), `&name=` where only one node may use it, `&for=1h`, and `&origins=a:7443,b:7443` for how the
//! node reaches origins, where it is not what `names` of `[link]` says.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tidegate_model::config::DurationText;
use tidegate_model::uri;

use super::message;
use crate::body::Body;
use crate::identity::{Authority, JoinToken, Role, Wanted};
use crate::request::reply;

/// The authority of this node's link, and how other nodes reach it.
pub struct Tokens {
    pub authority: Arc<Authority>,
    pub names: Vec<String>,
}

/// Answers a request; `tokens` is none where this node takes no others, or is not the one that signs.
pub async fn answer(tokens: Option<&Tokens>, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::PUT {
        return message(
            StatusCode::METHOD_NOT_ALLOWED,
            "there is PUT /tidegate/v1/nodes/tokens?role=edge|origin&name=…&for=1h&origins=HOST:PORT,…",
        );
    }
    let Some(tokens) = tokens else {
        return message(
            StatusCode::CONFLICT,
            "this node gives out no join tokens: ask the origin that has [link] and that others joined",
        );
    };
    let wanted = match read(request.uri().query().unwrap_or_default(), &tokens.names) {
        Ok(wanted) => wanted,
        Err(problem) => return message(StatusCode::BAD_REQUEST, &problem),
    };
    let (role, authority) = (wanted.role, tokens.authority.clone());
    match tokio::task::spawn_blocking(move || authority.mint(wanted)).await {
        Ok(Ok(token)) => reply::json(&made(&token, role)),
        Ok(Err(error)) => message(StatusCode::BAD_REQUEST, &format!("{error:#}")),
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn read(query: &str, names: &[String]) -> Result<Wanted, String> {
    let parameter = |name| uri::query_parameter(query, name);
    let role = match parameter("role").as_deref() {
        None | Some("edge") => Role::Edge,
        Some("origin") => Role::Origin,
        Some(other) => return Err(format!("\"{other}\" is no role: there are edge and origin")),
    };
    let lifetime = match parameter("for") {
        None => LIFETIME,
        Some(text) => {
            DurationText::parse(&text)
                .map_err(|problem| problem.to_string())?
                .0
        }
    };
    let origins = match parameter("origins") {
        None => names.to_vec(),
        Some(text) => text.split(',').map(str::to_owned).collect(),
    };
    Ok(Wanted {
        role,
        name: parameter("name").map(|name| name.into_owned()),
        lifetime,
        origins,
    })
}

fn made(token: &JoinToken, role: Role) -> serde_json::Value {
    json!({
        "token": token.reveal(),
        "id": token.id,
        "role": role,
        "origins": token.origins,
        "expiresAt": token.expires_at,
    })
}

/// Long enough to walk over to the other machine.
const LIFETIME: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_an_edge_for_an_hour_at_the_links_names() {
        let names = ["a.example:7443".to_owned()];
        let wanted = read("", &names).unwrap();
        assert_eq!(
            (wanted.role, wanted.name, wanted.lifetime),
            (Role::Edge, None, LIFETIME)
        );
        assert_eq!(wanted.origins, names);
        let wanted = read("role=origin&name=b&for=90s&origins=c:1,%5B::1%5D:2", &names).unwrap();
        assert_eq!(
            (wanted.role, wanted.name.as_deref()),
            (Role::Origin, Some("b"))
        );
        assert_eq!(wanted.lifetime, Duration::from_secs(90));
        assert_eq!(wanted.origins, ["c:1", "[::1]:2"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (query, expected) in [("role=all", "\"all\" is no role"), ("for=90", "90")] {
            let refused = read(query, &[]).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
