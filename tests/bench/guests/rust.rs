//! Counts five headers: the authorizer of the benchmark's case `guest-rust`.

use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Principal, Setup, Verdict,
    request,
};

struct FiveHeaders;

impl Plugin for FiveHeaders {
    fn configure(_: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        Ok(Setup::new(Self))
    }
}

impl Authorizer for FiveHeaders {
    fn authorize(&self, _: Given) -> Result<Verdict, String> {
        let found = NAMES.iter().filter(|name| request::header(name).is_some()).count();
        Ok(if found == NAMES.len() {
            Verdict::Allow(Principal::new("five"))
        } else {
            Verdict::Forbidden(None)
        })
    }
}

const NAMES: [&str; 5] = ["x-one", "x-two", "x-three", "x-four", "x-five"];

tidegate_plugin::export!(FiveHeaders: authorizer);
