use http::Method;
use proptest::prelude::*;

use super::*;

fn routes(flavor: Flavor, keys: &[&str]) -> Routes {
    let mut routes = Routes::new(flavor);
    for (entry, key) in keys.iter().enumerate() {
        add(&mut routes, key, entry).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    routes
}

fn add(routes: &mut Routes, key: &str, entry: usize) -> Result<Vec<String>, RouteError> {
    if key == "$default" {
        return routes.add_default(entry).map(|()| Vec::new());
    }
    let (method, path) = key.split_once(' ').unwrap_or(("ANY", key));
    let method = (method != "ANY").then(|| method.parse().unwrap());
    routes.add(method, path, entry)
}

/// The route key and the parameters, or why there is none.
fn select(routes: &Routes, keys: &[&str], method: &str, path: &str) -> String {
    match routes.select(&method.parse().unwrap(), path) {
        Selection::Matched { entry, params } => {
            let values =
                (0..params.len()).map(|index| format!(" {}", params.get(index, path).unwrap()));
            format!("{}{}", keys[entry], values.collect::<String>())
        }
        Selection::MethodNotAllowed => "method".to_owned(),
        Selection::NotFound => "none".to_owned(),
    }
}

const KEYS: &[&str] = &[
    "GET /",
    "GET /items",
    "POST /items",
    "GET /items/{id}",
    "ANY /items/{id}",
    "GET /items/new",
    "GET /items/{id}/parts/{part}",
    "ANY /files/{proxy+}",
    "GET /files/{name}/meta",
    "GET /files/index",
    "GET /a b",
    "GET /deep/{a}/x",
    "ANY /deep/{proxy+}",
];

#[test]
fn a_rest_api_chooses_the_resource_and_then_the_method() {
    let routes = routes(Flavor::Rest, KEYS);
    let cases = [
        ("GET", "/", "GET /"),
        ("GET", "", "GET /"),
        ("POST", "/", "method"),
        ("GET", "/items", "GET /items"),
        ("GET", "/items/", "GET /items"),
        ("GET", "/items//", "none"),
        ("GET", "//items", "none"),
        ("DELETE", "/items", "method"),
        ("GET", "/items/7", "GET /items/{id} 7"),
        ("GET", "/items/7/", "GET /items/{id} 7"),
        ("PATCH", "/items/7", "ANY /items/{id} 7"),
        ("GET", "/items/a%2Fb", "GET /items/{id} a%2Fb"),
        ("GET", "/items/new", "GET /items/new"),
        ("GET", "/items/n%65w", "GET /items/new"),
        // The resource /items/new exists, so its missing method is not looked for elsewhere.
        ("PUT", "/items/new", "method"),
        (
            "GET",
            "/items/7/parts/9",
            "GET /items/{id}/parts/{part} 7 9",
        ),
        (
            "GET",
            "/items/new/parts/9",
            "GET /items/{id}/parts/{part} new 9",
        ),
        ("GET", "/items/7/parts", "none"),
        ("PUT", "/files/a/b/c", "ANY /files/{proxy+} a/b/c"),
        ("PUT", "/files/a/", "ANY /files/{proxy+} a/"),
        ("GET", "/files/a/meta", "GET /files/{name}/meta a"),
        ("GET", "/files/a/meta/x", "ANY /files/{proxy+} a/meta/x"),
        ("GET", "/files/index", "GET /files/index"),
        ("GET", "/files", "none"),
        ("GET", "/files/", "none"),
        ("GET", "/files//", "ANY /files/{proxy+} /"),
        ("GET", "/a%20b", "GET /a b"),
        ("GET", "/Items", "none"),
        ("GET", "/deep/1/y", "ANY /deep/{proxy+} 1/y"),
        ("GET", "items", "GET /items"),
    ];
    for (method, path, expected) in cases {
        assert_eq!(
            select(&routes, KEYS, method, path),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn an_http_api_prefers_full_matches_of_route_and_method() {
    let keys = &[
        "GET /pets/dog/1",
        "GET /pets/dog/{id}",
        "GET /pets/{proxy+}",
        "ANY /{proxy+}",
        "GET /{kind}/cat",
        "$default",
    ];
    let with_default = routes(Flavor::Http, keys);
    let cases = [
        ("GET", "/pets/dog/1", "GET /pets/dog/1"),
        ("GET", "/pets/dog/2", "GET /pets/dog/{id} 2"),
        ("GET", "/pets/mouse/3", "GET /pets/{proxy+} mouse/3"),
        // A full match wins, though the greedy route has more text.
        ("GET", "/pets/cat", "GET /{kind}/cat pets"),
        ("POST", "/pets/dog/1", "ANY /{proxy+} pets/dog/1"),
        ("GET", "/pets/dog/1/", "GET /pets/{proxy+} dog/1/"),
        ("GET", "/", "$default"),
        ("GET", "", "$default"),
    ];
    for (method, path, expected) in cases {
        assert_eq!(
            select(&with_default, keys, method, path),
            expected,
            "{method} {path}"
        );
    }
    let without = routes(Flavor::Http, &["GET /pets"]);
    let cases = [
        ("GET", "/pets", "GET /pets"),
        ("GET", "/pets/", "none"),
        ("PUT", "/pets", "method"),
    ];
    for (method, path, expected) in cases {
        assert_eq!(
            select(&without, &["GET /pets"], method, path),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn routes_that_no_request_could_tell_apart_are_refused() {
    let error = |message: &str| Err(message.to_owned());
    let cases = [
        ("GET /a", "GET /a", error("the route is there twice")),
        ("GET /a", "GET /a/", error("the route is there twice")),
        (
            "ANY /a/{x}",
            "ANY /a/{x}",
            error("the route is there twice"),
        ),
        (
            "GET /a/{x}",
            "PUT /a/{y}",
            error("parameter \"{y}\" stands where another route has \"{x}\""),
        ),
        (
            "GET /{a+}",
            "PUT /{b+}",
            error("parameter \"{b+}\" stands where another route has \"{a+}\""),
        ),
        ("$default", "$default", error("the route is there twice")),
        ("GET /a", "GET a", error("path does not start with /")),
        (
            "GET /a",
            "GET /x{y}",
            error("path segment \"x{y}\" is neither text nor a parameter in braces"),
        ),
        (
            "GET /a",
            "GET /{}",
            error("path segment \"{}\" is neither text nor a parameter in braces"),
        ),
        (
            "GET /a",
            "GET //b",
            error("path segment \"\" is neither text nor a parameter in braces"),
        ),
        (
            "GET /a",
            "GET /{x+}/b",
            error("greedy parameter \"x\" is not the last segment"),
        ),
        (
            "GET /a",
            "GET /{x}/{x}",
            error("parameter \"x\" is in the path twice"),
        ),
        ("GET /a", "PUT /a", Ok(vec![])),
        (
            "GET /{x}",
            "PUT /{x}/{y+}",
            Ok(vec!["x".to_owned(), "y".to_owned()]),
        ),
    ];
    for (first, second, expected) in cases {
        let mut routes = routes(Flavor::Rest, &[first]);
        assert_eq!(
            add(&mut routes, second, 1).map_err(|error| error.to_string()),
            expected,
            "{first}, {second}"
        );
    }
}

#[test]
fn more_parameters_than_fit_in_place_are_kept_as_well() {
    let path: String = (0..12).map(|n| format!("/{{p{n}}}")).collect();
    let mut routes = Routes::new(Flavor::Rest);
    let names = routes.add(None, &path, 0).unwrap();
    let request: String = (0..12).map(|n| format!("/v{n}")).collect();
    let Selection::Matched { params, .. } = routes.select(&Method::GET, &request) else {
        panic!("no match")
    };
    let values: Vec<_> = (0..params.len())
        .map(|index| params.get(index, &request).unwrap())
        .collect();
    assert_eq!(names.len(), 12);
    assert_eq!(
        values,
        [
            "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"
        ]
    );
    assert_eq!(params.get(12, &request), None);
}

proptest! {
    #[test]
    fn any_path_is_matched_or_not(path in "(?s).{0,60}", http in any::<bool>()) {
        let flavor = if http { Flavor::Http } else { Flavor::Rest };
        let routes = routes(flavor, KEYS);
        if let Selection::Matched { params, .. } = routes.select(&Method::GET, &path) {
            for index in 0..params.len() {
                prop_assert!(params.get(index, &path).is_some());
            }
        }
    }

    #[test]
    fn any_pattern_is_added_or_refused(path in "/?[a-c{}+/]{0,20}") {
        let mut routes = Routes::new(Flavor::Rest);
        if routes.add(None, &path, 0).is_ok() && !path.contains('{') {
            let found = matches!(routes.select(&Method::GET, &path), Selection::Matched { entry: 0, .. });
            prop_assert!(found, "{path} matches itself");
        }
    }
}

/// Run by hand: `cargo test --release -p tidegate-model -- --ignored --nocapture nanoseconds`.
#[test]
#[ignore = "measures"]
fn nanoseconds_for_each_selection_among_300_routes() {
    let mut routes = Routes::new(Flavor::Rest);
    for n in 0..100 {
        for (method, path) in [("GET", ""), ("POST", ""), ("GET", "/{id}/parts/{part}")] {
            let path = format!("/v1/resource-{n}{path}");
            routes.add(Some(method.parse().unwrap()), &path, n).unwrap();
        }
    }
    for path in [
        "/v1/resource-57",
        "/v1/resource-57/42/parts/7",
        "/v1/nothing",
    ] {
        let rounds = 1_000_000u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(routes.select(&Method::GET, std::hint::black_box(path)));
        }
        println!(
            "{path}: {} ns",
            start.elapsed().as_nanos() / u128::from(rounds)
        );
    }
}
