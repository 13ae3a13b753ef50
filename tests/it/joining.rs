//! Who a node is to others: joining, certificates, and those who are turned away.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_tests::linked::{
    API_KEY, api_to, edge, edge_setup, nodes, origin_named, origin_to, ready, snapshot, token,
    without_udp,
};
use tidegate_tests::{Connection, Setup, TestNode, TestOrigin, binary, trusting, until};

/// What a command says, and whether it succeeded.
fn tidegate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A token with another one's secret.
fn with_the_secret_of(token: &str, other: &str) -> String {
    let read = |token: &str| -> serde_json::Value {
        let (_, text) = token.split_once('_').unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    let mut forged = read(token);
    forged["secret"] = read(other)["secret"].clone();
    format!("tgjoin1_{}", URL_SAFE_NO_PAD.encode(forged.to_string()))
}

#[tokio::test]
async fn a_token_that_lets_nobody_in_is_refused_with_what_to_do() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let way = format!("role = 'edge'\n[[origin]]\naddress = '{}'\n", origin.link());
    let text = format!("[node]\nname = 'one'\ndata = 'data'\n{way}");
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n";
    let setup = TestNode::with(&text).written_down();
    let file = setup.folder().join("node.toml");
    let file = file.to_str().unwrap();
    let join = |token: &str| tidegate(&["node", "join", token, file]);
    let other_file = setup.folder().join("two.toml");
    std::fs::write(
        &other_file,
        text.replace("'one'", "'two'")
            .replace("'data'", "'data-two'")
            + listener,
    )
    .unwrap();

    let spent = token(&origin, "edge");
    assert!(join(&spent).0, "a token lets one node in");
    let expired = {
        let admin = origin.admin_address().to_string();
        let link = origin.link().to_string();
        let asked = [
            "node", "token", "--for", "1s", "--origin", &link, "--admin", &admin,
        ];
        let output = Command::new(binary()).args(asked).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let made = Instant::now();
    let forged = with_the_secret_of(&token(&origin, "edge"), &expired);

    let join_two = |token: &str| tidegate(&["node", "join", token, other_file.to_str().unwrap()]);
    let what_to_do = "make another one with `tidegate node token`";
    let (joined, said) = join_two(&spent);
    assert!(
        !joined && said.contains("was used before, by node \"one\""),
        "{said}"
    );
    assert!(said.contains(what_to_do), "{said}");
    until("the token has expired", async || {
        (made.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    let (joined, said) = join_two(&expired);
    assert!(!joined && said.contains("has expired"), "{said}");
    assert!(said.contains(what_to_do), "{said}");
    let (joined, said) = join_two(&forged);
    assert!(
        !joined && said.contains("none of this authority's"),
        "{said}"
    );
    for cause in ["\"one\"", "expired", "none of this authority's"] {
        origin.until_logged(&["a node was not let in", cause]).await;
    }
}

/// Makes the certificate of a node that has joined `origin` three weeks old, of thirty days.
fn age(setup: &Setup, name: &str, origin: &TestNode) -> String {
    let text = std::fs::read_to_string(origin.path("data/identity/authority.pem")).unwrap();
    let authority = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let key = |text: &str| {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
        KeyPair::try_from(&key).unwrap()
    };
    let issuer = Issuer::from_ca_cert_der(&authority, key(&text)).unwrap();
    let file = setup.folder().join("data/identity/node.pem");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let uri = format!("tidegate://node/{name}?role=edge&region=far");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let day = Duration::from_secs(24 * 3600);
    params.not_before = (SystemTime::now() - 21 * day).into();
    params.not_after = (SystemTime::now() + 9 * day).into();
    let aged = params.signed_by(&key(&text), &issuer).unwrap().pem();
    let (before, rest) = text.split_once("-----BEGIN CERTIFICATE-----").unwrap();
    let (_, after) = rest.split_once("-----END CERTIFICATE-----\n").unwrap();
    let text = format!("{before}{}{after}", aged.replace("\r\n", "\n"));
    std::fs::write(&file, &text).unwrap();
    text
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_over_the_link() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    for over_tcp in [false, true] {
        let ways = match over_tcp {
            false => vec![],
            true => vec![without_udp(origin.link()).await],
        };
        let name = format!("edge-{over_tcp}");
        let setup = edge_setup(&name, &origin, &ways, "");
        let aged = age(&setup, &name, &origin);
        let node = setup.start().await;
        ready(&node).await;
        node.until_logged(&["certificate renewed"]).await;
        let file = node.path("data/identity/node.pem");
        let renewed = std::fs::read_to_string(file).unwrap();
        assert_ne!(renewed, aged);
        node.get("/test/open/a").await.assert_status(200);
        // It is the one that it shows when it comes again.
        let node = node.kill9().await.start().await;
        until("its link is up", async || {
            (node.get("/test/open/a").await.status == 200).then_some(())
        })
        .await;
        let again = node.log().into_iter().find(|line| line.contains("renewed"));
        assert_eq!(again, None);
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_turned_away_and_both_ends_say_why() {
    let upstream = TestOrigin::saying("hello").await;
    let (mine, other) = (origin_to(&upstream).await, origin_to(&upstream).await);
    for ways in [vec![other.link()], vec![without_udp(other.link()).await]] {
        let name = format!("stranger-{}", ways[0].port());
        // It has joined the one, and links to the other.
        let stranger = edge_setup(&name, &mine, &ways, "").start().await;
        stranger.until_logged(&["no link", "certificate"]).await;
        assert_eq!(stranger.admin("/readyz").await.status, 503);
        let turned_away = other.until_logged(&["turned away", "cause"]).await;
        assert!(turned_away.contains("ertificate"), "{turned_away}");
        assert_eq!(nodes(&other).await.len(), 0);
    }
}

#[tokio::test]
async fn who_shows_no_certificate_can_join_and_nothing_else() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let authority = std::fs::read(origin.path("data/identity/authority.pem")).unwrap();
    let told = serde_json::json!({
        "snapshot": snapshot(&origin).await, "stage": "api/test", "route": "ANY /open/{proxy+}", "offset": 5,
        "id": "00000000-0000-4000-8000-000000000000", "viewer": "192.0.2.1:1", "tls": true, "port": 443,
        "host": "api.example", "version": 11, "began_ms": 0, "has_body": false, "principal": { "id": "root" },
    });
    for path in [
        "/test/open/a",
        "/tidegate/link/v1/events",
        "/tidegate/link/v1/ping",
    ] {
        let config = Arc::new(trusting(&authority, &["h2"]));
        let mut stranger = Connection::tls(origin.link(), "origin.tidegate.internal", config)
            .await
            .unwrap();
        let request = http::Request::get(path)
            .header("host", "origin.tidegate.internal")
            .header("tidegate-told", told.to_string());
        let reply = stranger
            .ask(request.body(Bytes::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(reply.status, 401, "{path}: {}", reply.text());
        assert!(reply.text().contains("needs a node's certificate"));
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn forwarded_identity_from_a_public_listener_is_dropped_and_told_of() {
    let upstream = TestOrigin::echo().await;
    let origin = origin_named("home", "")
        .api(&api_to(&upstream))
        .key(API_KEY, &["api/test"])
        .start()
        .await;
    let edge = edge("edge-1", &origin, &[]).await;
    for node in [&origin, &edge] {
        let forged = node
            .build("GET", "/test/open/a")
            .header("tidegate-told", "{}")
            .header("tidegate-outcome", "{}");
        let reply = node.ask(forged).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains("tidegate-"), "{}", reply.text());
        let line = ["only nodes may send", "tidegate-told", "127.0.0.1"];
        node.until_logged(&line).await;
    }
}

#[tokio::test]
async fn node_list_shows_each_node_and_its_link() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let blocked = without_udp(origin.link()).await;
    let free = edge("free", &origin, &[]).await;
    let _blocked = edge("blocked", &origin, &[blocked]).await;
    free.get("/test/open/a").await.assert_status(200);
    let admin = origin.admin_address().to_string();
    let said = until("both have reported", async || {
        let (listed, said) = tidegate(&["node", "list", "--admin", &admin]);
        assert!(listed, "{said}");
        (said.matches(" up ").count() == 2).then_some(said)
    })
    .await;
    let rows: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let headings = "NAME ROLE REGION HEALTH SNAPSHOT VERSION LINK RTT REQUESTS";
    assert_eq!(rows[0].join(" "), headings);
    let served = &snapshot(&origin).await[..8];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        rows[1],
        ["home", "origin", "local", "this", served, version]
    );
    for (row, name, link) in [(&rows[2], "blocked", "tcp"), (&rows[3], "free", "quic")] {
        assert_eq!(row[..7], [name, "edge", "far", "up", served, version, link]);
        assert!(
            row[7].parse::<f64>().unwrap() > 0.0 && row[8] == "ms",
            "{row:?}"
        );
    }
}
