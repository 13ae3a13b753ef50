use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::join::{JoinFailure, join};
use super::*;

/// An origin with its authority, in a directory of its own.
struct Origin {
    data: TempDir,
    authority: Arc<Authority>,
    identity: Identity,
}

impl Origin {
    fn new() -> Self {
        let data = TempDir::new().unwrap();
        let authority = Authority::open(data.path()).unwrap();
        let identity = authority
            .identify(data.path(), "origin-1", "eu-central")
            .unwrap();
        Self {
            data,
            authority: Arc::new(authority),
            identity,
        }
    }

    fn token(&self, role: Role, name: Option<&str>) -> JoinToken {
        self.authority.mint(wanted(role, name)).unwrap()
    }

    /// A node that joined without a network.
    fn node(&self, peer: &Peer) -> (TempDir, Identity) {
        let data = TempDir::new().unwrap();
        make_directory(data.path()).unwrap();
        let renewal = Renewal::new(&peer.name).unwrap();
        let token = self.token(peer.role, None);
        let answer = self
            .authority
            .answer_join(&request(&token, peer, &renewal))
            .unwrap();
        let identity = renewal.settle(data.path(), &answer, peer).unwrap();
        (data, identity)
    }
}

fn wanted(role: Role, name: Option<&str>) -> Wanted {
    Wanted {
        role,
        name: name.map(str::to_owned),
        lifetime: Duration::from_secs(3600),
        origins: vec!["127.0.0.1:7443".to_owned()],
    }
}

fn edge(name: &str) -> Peer {
    Peer {
        name: name.to_owned(),
        role: Role::Edge,
        region: "ap-southeast".to_owned(),
    }
}

fn request(token: &JoinToken, peer: &Peer, renewal: &Renewal) -> Vec<u8> {
    let request = JoinRequest {
        token: token.id.clone(),
        secret: URL_SAFE_NO_PAD.encode(token.secret),
        csr: URL_SAFE_NO_PAD.encode(&renewal.csr),
        name: peer.name.clone(),
        role: peer.role,
        region: peer.region.clone(),
    };
    serde_json::to_vec(&request).unwrap()
}

/// Shakes hands in memory, until both are done or one has had enough. Gives what the server knows of the client.
fn shake(client: ClientConfig, server: &ServerConfig) -> Result<Option<Peer>, rustls::Error> {
    let name = ORIGIN_NAME.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server.clone()))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        server.read_tls(&mut flight.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut flight = Vec::new();
        server.write_tls(&mut flight).unwrap();
        client.read_tls(&mut flight.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let certificate = server.peer_certificates().and_then(<[_]>::first);
    Ok(certificate.map(|certificate| Peer::of_certificate(certificate).unwrap()))
}

fn ca_of(origin: &Origin) -> CertificateDer<'static> {
    let text = std::fs::read(origin.data.path().join("identity/authority.pem")).unwrap();
    CertificateDer::from_pem_slice(&text).unwrap()
}

#[test]
fn an_authority_is_made_once_and_is_its_owners_alone() {
    let data = TempDir::new().unwrap();
    let first = Authority::open(data.path()).unwrap().fingerprint();
    assert_eq!(Authority::open(data.path()).unwrap().fingerprint(), first);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.path().join("identity")), 0o700);
    assert_eq!(mode(&data.path().join("identity/authority.pem")), 0o600);
}

#[test]
fn a_damaged_authority_is_named_and_not_made_anew() {
    let data = TempDir::new().unwrap();
    Authority::open(data.path()).unwrap();
    let file = data.path().join("identity/authority.pem");
    let whole = std::fs::read_to_string(&file).unwrap();
    for damaged in [
        "",
        &whole[..whole.len() / 2],
        "-----BEGIN CERTIFICATE-----\n",
    ] {
        std::fs::write(&file, damaged).unwrap();
        let refused = format!("{:#}", Authority::open(data.path()).err().unwrap());
        assert!(
            refused.contains("authority.pem cannot be read"),
            "{refused}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged);
    }
}

#[test]
fn a_node_that_joined_another_origin_does_not_sign() {
    let origin = Origin::new();
    let second = Peer {
        role: Role::Origin,
        ..edge("origin-2")
    };
    let (data, _) = origin.node(&second);
    let refused = Authority::open(data.path()).err().unwrap().to_string();
    assert!(refused.contains("joined another origin"), "{refused}");
    assert!(Authority::is_elsewhere(data.path()) && !Authority::is_elsewhere(origin.data.path()));
}

#[test]
fn a_token_lets_one_node_in() {
    let origin = Origin::new();
    let (data, identity) = origin.node(&edge("edge-1"));
    assert_eq!(identity.peer(), edge("edge-1"));
    assert_eq!(identity.authority(), origin.authority.fingerprint());
    let again = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(again.peer(), edge("edge-1"));
    let file = data.path().join("identity/node.pem");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_may_not_join_is_told_why() {
    let origin = Origin::new();
    let now = SystemTime::now();
    let renewal = Renewal::new("edge-1").unwrap();
    let other = Renewal::new("edge-1").unwrap();
    let good = origin.token(Role::Edge, Some("edge-1"));
    let spent = origin.token(Role::Edge, None);
    origin
        .authority
        .answer_join(&request(&spent, &edge("edge-1"), &renewal))
        .unwrap();
    let unknown = JoinToken {
        id: "x".to_owned(),
        ..good.clone()
    };
    let forged = JoinToken {
        secret: [0; 32],
        ..good.clone()
    };
    let forged_spent = JoinToken {
        secret: [0; 32],
        ..spent.clone()
    };
    let a_day = Duration::from_secs(24 * 3600);
    let posing = Peer {
        role: Role::Origin,
        ..edge("edge-1")
    };
    let escaping = Peer {
        region: "x&role=origin".to_owned(),
        ..edge("edge-1")
    };
    let with = |key: &str, value: Value| {
        let mut request: Value =
            serde_json::from_slice(&request(&good, &edge("edge-1"), &renewal)).unwrap();
        request[key] = value;
        request.to_string().into_bytes()
    };
    let mut unsigned = renewal.csr.clone();
    let at = unsigned.len() - 1;
    unsigned[at] ^= 1;
    let cases = [
        (
            request(&unknown, &edge("edge-1"), &renewal),
            now,
            "forged-token",
        ),
        (
            request(&forged, &edge("edge-1"), &renewal),
            now,
            "forged-token",
        ),
        (
            request(&forged_spent, &edge("edge-1"), &renewal),
            now,
            "forged-token",
        ),
        (with("secret", json!("")), now, "forged-token"),
        (
            request(&good, &edge("edge-1"), &renewal),
            now + a_day,
            "expired-token",
        ),
        (request(&spent, &edge("edge-1"), &other), now, "spent-token"),
        (
            request(&spent, &edge("edge-2"), &renewal),
            now,
            "spent-token",
        ),
        (request(&good, &posing, &renewal), now, "role-not-allowed"),
        (
            request(&good, &edge("edge-2"), &renewal),
            now,
            "name-not-allowed",
        ),
        (request(&good, &escaping, &renewal), now, "malformed"),
        (with("csr", json!("")), now, "malformed"),
        (
            with("csr", json!(URL_SAFE_NO_PAD.encode(&unsigned))),
            now,
            "malformed",
        ),
        (with("more", json!(1)), now, "malformed"),
        (vec![b' '; REQUEST_BYTES_MAX + 1], now, "malformed"),
        (b"{}".to_vec(), now, "malformed"),
    ];
    for (body, at, expected) in cases {
        let refused = origin.authority.answer_join_at(&body, at).unwrap_err();
        assert_eq!(
            refused.code(),
            expected,
            "{refused}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    // None of them has spent it.
    origin
        .authority
        .answer_join(&request(&good, &edge("edge-1"), &renewal))
        .unwrap();
}

#[test]
fn a_token_stays_spent_over_a_restart_but_a_lost_answer_is_given_again() {
    let origin = Origin::new();
    let token = origin.token(Role::Edge, None);
    let (renewal, other) = (Renewal::new("a").unwrap(), Renewal::new("a").unwrap());
    let first = request(&token, &edge("a"), &renewal);
    origin.authority.answer_join(&first).unwrap();
    let restarted = Authority::open(origin.data.path()).unwrap();
    let refused = restarted
        .answer_join(&request(&token, &edge("a"), &other))
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.status()),
        ("spent-token", StatusCode::GONE)
    );
    assert!(refused.to_string().contains("by node \"a\""), "{refused}");
    restarted.answer_join(&first).unwrap();
}

#[test]
fn a_token_that_cannot_be_written_down_is_not_spent() {
    let origin = Origin::new();
    let token = origin.token(Role::Edge, None);
    let renewal = Renewal::new("a").unwrap();
    let body = request(&token, &edge("a"), &renewal);
    // A directory in the draft's place: root could write into one without rights.
    let draft = origin.data.path().join("identity/tokens.part");
    std::fs::create_dir(&draft).unwrap();
    let refused = origin.authority.answer_join(&body).unwrap_err();
    assert_eq!(
        (refused.code(), refused.status()),
        ("unavailable", StatusCode::SERVICE_UNAVAILABLE)
    );
    std::fs::remove_dir(&draft).unwrap();
    let other = request(&token, &edge("a"), &Renewal::new("a").unwrap());
    origin.authority.answer_join(&other).unwrap();
}

#[test]
fn only_so_many_tokens_are_out_and_old_ones_are_forgotten() {
    let origin = Origin::new();
    let now = SystemTime::now();
    let first = origin.token(Role::Edge, None);
    // Each one that is made is flushed: the others are written at once.
    let file = origin.data.path().join("identity/tokens.json");
    let mut tokens: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let one = tokens[0].clone();
    tokens.extend((1..1000).map(|number| {
        let mut token = one.clone();
        token["id"] = format!("token-{number}").into();
        token
    }));
    std::fs::write(&file, serde_json::to_vec(&tokens).unwrap()).unwrap();
    let authority = Authority::open(origin.data.path()).unwrap();
    let mint = |at| authority.mint_at(wanted(Role::Edge, None), at);
    let refused = mint(now).unwrap_err().to_string();
    assert!(refused.contains("1000 join tokens are out"), "{refused}");
    let later = now + Duration::from_secs(2 * 3600);
    mint(later).unwrap();
    let text = std::fs::read_to_string(origin.data.path().join("identity/tokens.json")).unwrap();
    assert_eq!(
        text.matches("\"id\"").count(),
        1,
        "the expired ones have made room"
    );
    let renewal = Renewal::new("a").unwrap();
    let refused = authority.answer_join(&request(&first, &edge("a"), &renewal));
    assert_eq!(refused.unwrap_err().code(), "forged-token");
}

#[test]
fn no_secret_is_on_the_disk() {
    let origin = Origin::new();
    let token = origin.token(Role::Edge, None);
    let text = std::fs::read_to_string(origin.data.path().join("identity/tokens.json")).unwrap();
    assert!(
        text.contains(&token.id) && !text.contains(&URL_SAFE_NO_PAD.encode(token.secret)),
        "{text}"
    );
}

#[test]
fn tokens_for_what_cannot_be_are_not_made() {
    let origin = Origin::new();
    let base = wanted(Role::Edge, None);
    let cases = [
        (
            Wanted {
                lifetime: Duration::ZERO,
                ..base.clone()
            },
            "1s to 168h",
        ),
        (
            Wanted {
                lifetime: Duration::from_secs(1 << 30),
                ..base.clone()
            },
            "1s to 168h",
        ),
        (
            Wanted {
                origins: vec![],
                ..base.clone()
            },
            "1 to 8 origins",
        ),
        (
            Wanted {
                origins: vec!["a:1".to_owned(); 9],
                ..base.clone()
            },
            "1 to 8 origins",
        ),
        (
            Wanted {
                origins: vec!["a".to_owned()],
                ..base.clone()
            },
            "\"a\" is not a host and a port",
        ),
        (
            Wanted {
                name: Some("a b".to_owned()),
                ..base
            },
            "\"a b\" is no node's name",
        ),
    ];
    for (wanted, expected) in cases {
        let refused = origin.authority.mint(wanted).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn an_origin_knows_who_links_to_it_and_an_edge_that_it_is_an_origin() {
    let origin = Origin::new();
    let (_data, edge_1) = origin.node(&edge("edge-1"));
    let server = |auth| origin.identity.server_config(&[b"h3"], auth).unwrap();
    let client = || edge_1.client_config(&[b"h3"]).unwrap();
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        assert_eq!(shake(client(), &server(auth)), Ok(Some(edge("edge-1"))));
    }
    let nobody = ClientConfig::builder_with_provider(own::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(own::roots(&ca_of(&origin)).unwrap())
        .with_no_client_auth();
    assert_eq!(
        shake(nobody.clone(), &server(ClientAuth::Optional)),
        Ok(None)
    );
    shake(nobody, &server(ClientAuth::Required)).unwrap_err();
}

#[test]
fn an_edge_cannot_pose_as_an_origin() {
    let origin = Origin::new();
    let (_a, posing) = origin.node(&edge("edge-1"));
    let (_b, victim) = origin.node(&edge("edge-2"));
    let server = posing
        .server_config(&[b"h3"], ClientAuth::Required)
        .unwrap();
    let refused = shake(victim.client_config(&[b"h3"]).unwrap(), &server).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused}"
    );
}

#[test]
fn a_second_origin_serves_edges_as_the_first_does_and_links_to_it() {
    let origin = Origin::new();
    let second = Peer {
        role: Role::Origin,
        ..edge("origin-2")
    };
    let (_a, second_identity) = origin.node(&second);
    let (_b, edge_1) = origin.node(&edge("edge-1"));
    let serving = second_identity
        .server_config(&[b"h3"], ClientAuth::Required)
        .unwrap();
    let asking = edge_1.client_config(&[b"h3"]).unwrap();
    assert_eq!(shake(asking, &serving), Ok(Some(edge("edge-1"))));
    let serving = origin
        .identity
        .server_config(&[b"h3"], ClientAuth::Required)
        .unwrap();
    let asking = second_identity.client_config(&[b"h3"]).unwrap();
    assert_eq!(shake(asking, &serving), Ok(Some(second)));
}

#[test]
fn a_node_of_another_authority_is_turned_away_at_both_ends() {
    let (ours, theirs) = (Origin::new(), Origin::new());
    let (_a, our_edge) = ours.node(&edge("edge-1"));
    let (_b, their_edge) = theirs.node(&edge("edge-1"));
    let server = |origin: &Origin| {
        origin
            .identity
            .server_config(&[b"h3"], ClientAuth::Required)
            .unwrap()
    };
    let refused = shake(our_edge.client_config(&[b"h3"]).unwrap(), &server(&theirs)).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "the edge: {refused}"
    );
    // It shows a certificate of theirs, and believes us.
    let mut client = our_edge.client_config(&[b"h3"]).unwrap();
    client.client_auth_cert_resolver = their_edge
        .client_config(&[])
        .unwrap()
        .client_auth_cert_resolver;
    let refused = shake(client, &server(&ours)).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "the origin: {refused}"
    );
}

#[test]
fn a_renewed_certificate_is_shown_from_the_next_handshake_on() {
    let origin = Origin::new();
    let (data, edge_1) = origin.node(&edge("edge-1"));
    let client = edge_1.client_config(&[b"h3"]).unwrap();
    let server = origin
        .identity
        .server_config(&[b"h3"], ClientAuth::Required)
        .unwrap();
    let shown = |client: &ClientConfig| {
        let resolver = &client.client_auth_cert_resolver;
        let schemes = resolver.resolve(&[], &[]).unwrap();
        schemes.cert[0].clone()
    };
    let before = shown(&client);
    let renewal = edge_1.begin_renewal().unwrap();
    let answer = origin
        .authority
        .answer_renewal(&edge_1.peer(), &renewal.csr)
        .unwrap();
    edge_1.finish_renewal(renewal, &answer).unwrap();
    let after = shown(&client);
    assert_ne!(before, after);
    assert_eq!(shake(client, &server), Ok(Some(edge("edge-1"))));
    let loaded = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(shown(&loaded.client_config(&[]).unwrap()), after);
}

#[test]
fn a_renewal_takes_nothing_but_what_was_asked_for() {
    let (origin, other) = (Origin::new(), Origin::new());
    let (data, edge_1) = origin.node(&edge("edge-1"));
    let file = data.path().join("identity/node.pem");
    let before = std::fs::read(&file).unwrap();
    type Answer<'a> = Box<dyn Fn(&Renewal) -> Vec<u8> + 'a>;
    let anothers_key = || Renewal::new("edge-1").unwrap().csr;
    let long_ago = SystemTime::now() - 2 * LIFETIME;
    let cases: [(Answer<'_>, &str); 6] = [
        (Box::new(|_| b"{}".to_vec()), "no certificate"),
        (Box::new(|_| b"".to_vec()), "no certificate"),
        (
            Box::new(|renewal| {
                other
                    .authority
                    .answer_renewal(&edge("edge-1"), &renewal.csr)
                    .unwrap()
            }),
            "does not hold",
        ),
        (
            Box::new(|renewal| {
                origin
                    .authority
                    .answer_renewal_at(&edge("edge-1"), &renewal.csr, long_ago)
                    .unwrap()
            }),
            "does not hold",
        ),
        (
            Box::new(|renewal| {
                origin
                    .authority
                    .answer_renewal(&edge("edge-2"), &renewal.csr)
                    .unwrap()
            }),
            "another node's",
        ),
        (
            Box::new(|_| {
                origin
                    .authority
                    .answer_renewal(&edge("edge-1"), &anothers_key())
                    .unwrap()
            }),
            "do not belong together",
        ),
    ];
    for (answer, expected) in cases {
        let renewal = edge_1.begin_renewal().unwrap();
        let answer = answer(&renewal);
        let refused = format!("{:#}", edge_1.finish_renewal(renewal, &answer).unwrap_err());
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_certificate_is_due_for_renewal_after_two_thirds_of_its_time() {
    let origin = Origin::new();
    let (_data, edge_1) = origin.node(&edge("edge-1"));
    let days =
        |at: SystemTime| at.duration_since(SystemTime::now()).unwrap().as_secs_f64() / 86400.0;
    assert!(
        (19.9..20.1).contains(&days(edge_1.renewal_due())),
        "{}",
        days(edge_1.renewal_due())
    );
    assert!(
        (29.9..30.1).contains(&days(edge_1.valid_until())),
        "{}",
        days(edge_1.valid_until())
    );
}

#[tokio::test]
async fn a_certificate_that_is_due_renews_itself() {
    let origin = Origin::new();
    let (data, edge_1) = origin.node(&edge("edge-1"));
    let three_weeks_ago = SystemTime::now() - LIFETIME * 7 / 10;
    let renewal = edge_1.begin_renewal().unwrap();
    let old = origin
        .authority
        .answer_renewal_at(&edge_1.peer(), &renewal.csr, three_weeks_ago);
    edge_1.finish_renewal(renewal, &old.unwrap()).unwrap();
    assert!(edge_1.renewal_due() < SystemTime::now());
    let peer = edge_1.peer();
    let keeping =
        edge_1.keep_renewed(async |csr| Ok(origin.authority.answer_renewal(&peer, &csr)?));
    let due = async {
        while edge_1.renewal_due() < SystemTime::now() {
            tokio::task::yield_now().await;
        }
    };
    let renewed = async {
        tokio::select! { () = keeping => {}, () = due => {} }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed)
        .await
        .unwrap();
    let loaded = Identity::load(data.path()).unwrap().unwrap();
    assert!(loaded.renewal_due() > SystemTime::now());
}

#[test]
fn a_key_and_a_certificate_that_do_not_belong_together_are_no_identity() {
    let origin = Origin::new();
    let (data, _) = origin.node(&edge("edge-1"));
    let (other, _) = origin.node(&edge("edge-2"));
    let file = |data: &TempDir| data.path().join("identity/node.pem");
    let key = std::fs::read_to_string(file(&other)).unwrap();
    let certificates = std::fs::read_to_string(file(&data)).unwrap();
    let begin = "-----BEGIN CERTIFICATE-----";
    let key = key.split(begin).next().unwrap();
    let certificates = &certificates[certificates.find(begin).unwrap()..];
    for (damaged, expected) in [
        (format!("{key}{certificates}"), "do not belong together"),
        (key.to_owned(), "not two certificates"),
        (certificates.to_owned(), "the key"),
        (String::new(), "not two certificates"),
    ] {
        std::fs::write(file(&data), damaged).unwrap();
        let refused = format!("{:#}", Identity::load(data.path()).unwrap_err());
        assert!(
            refused.contains("node.pem cannot be read") && refused.contains(expected),
            "{refused}"
        );
    }
}

/// Takes join requests as an origin's link does; how many it got.
async fn listen(origin: &Origin) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = origin
        .identity
        .server_config(&[b"h2"], ClientAuth::Optional)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (authority, requests) = (origin.authority.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (authority, counted) = (authority.clone(), counted.clone());
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (authority, counted) = (authority.clone(), counted.clone());
                async move {
                    assert_eq!(request.uri().path(), JOIN_PATH);
                    counted.fetch_add(1, Ordering::Relaxed);
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let (status, body) = match authority.answer_join(&body) {
                        Ok(answer) => (StatusCode::OK, answer),
                        Err(error) => (error.status(), error.answer().to_string().into_bytes()),
                    };
                    let mut response = Response::new(Full::new(bytes::Bytes::from(body)));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            let serving = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, requests)
}

fn at(token: &JoinToken, origins: &[&str]) -> JoinToken {
    JoinToken {
        origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
        ..token.clone()
    }
}

#[tokio::test]
async fn a_node_joins_by_the_first_origin_that_answers_and_only_once() {
    let origin = Origin::new();
    let (address, requests) = listen(&origin).await;
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let token = at(&origin.token(Role::Edge, None), &[&dead, &address]);
    let data = TempDir::new().unwrap();
    let identity = join(&token, &edge("edge-1"), data.path(), false)
        .await
        .unwrap();
    assert_eq!(identity.peer(), edge("edge-1"));
    assert_eq!(
        Identity::load(data.path()).unwrap().unwrap().peer(),
        edge("edge-1")
    );

    let refused = join(&token, &edge("edge-1"), data.path(), false)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, JoinFailure::AlreadyJoined { .. }),
        "{refused}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1, "it did not ask");

    let refused = join(&token, &edge("edge-1"), data.path(), true)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, JoinFailure::Refused { code, .. } if code == "spent-token"),
        "{refused}"
    );
    assert!(
        Identity::load(data.path()).unwrap().is_some(),
        "what it had it has"
    );

    let token = at(&origin.token(Role::Edge, None), &[&address]);
    let again = join(&token, &edge("edge-9"), data.path(), true)
        .await
        .unwrap();
    assert_eq!(again.peer().name, "edge-9");
}

#[tokio::test]
async fn a_node_does_not_send_its_secret_to_another_authority() {
    let (ours, theirs) = (Origin::new(), Origin::new());
    let (address, requests) = listen(&theirs).await;
    let token = at(&ours.token(Role::Edge, None), &[&address]);
    let data = TempDir::new().unwrap();
    let refused = join(&token, &edge("edge-1"), data.path(), false)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, JoinFailure::OtherAuthority { .. }),
        "{refused}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 0);
    assert!(Identity::load(data.path()).unwrap().is_none());
}

#[tokio::test]
async fn a_node_does_not_join_by_an_edge_that_poses_as_an_origin() {
    let mut origin = Origin::new();
    let (_data, posing) = origin.node(&edge("edge-1"));
    origin.identity = posing;
    let (address, requests) = listen(&origin).await;
    let token = at(&origin.token(Role::Edge, None), &[&address]);
    let data = TempDir::new().unwrap();
    let refused = join(&token, &edge("edge-2"), data.path(), false)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, JoinFailure::Untrusted { .. }),
        "{refused}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_node_that_reaches_no_origin_says_what_it_tried() {
    let origin = Origin::new();
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let token = at(
        &origin.token(Role::Edge, None),
        &[&dead, "no-such-host.invalid:7443"],
    );
    let data = TempDir::new().unwrap();
    let refused = join(&token, &edge("edge-1"), data.path(), false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with(&format!(
            "no origin can be reached: {dead}: Connection refused"
        )),
        "{refused}"
    );
    assert!(
        refused.contains("; no-such-host.invalid:7443: "),
        "{refused}"
    );
}
