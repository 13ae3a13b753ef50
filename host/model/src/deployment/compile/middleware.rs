//! `x-tidegate-middleware`: functions of the node around an integration.

use super::route::RouteSource;
use super::{Compiler, StageContext};
use crate::api::MiddlewareSpec;
use crate::deployment::{FaultPolicy, Middleware};
use crate::problem::did_you_mean;

impl Compiler<'_, '_> {
    /// What stands around a route's integration: the root's, then the operation's, the outermost first.
    pub(super) fn middleware(
        &mut self,
        stage: &StageContext<'_>,
        source: &RouteSource<'_>,
    ) -> Vec<Middleware> {
        let written = stage.definition.extensions.middleware.iter();
        let written = written.chain(source.middleware(stage));
        written
            .filter_map(|spec| self.around(spec, source))
            .collect()
    }

    fn around(&mut self, spec: &MiddlewareSpec, source: &RouteSource<'_>) -> Option<Middleware> {
        let name = &spec.function;
        let mut refuse = |problem: String, hint| {
            let message = format!("route \"{}\": {problem}", source.key);
            self.problems.add_with_hint(&spec.place, message, hint);
            None
        };
        let Some(function) = self.node.functions.get(name) else {
            let hint = did_you_mean(name, self.node.functions.keys().map(String::as_str));
            return refuse(format!("no function \"{name}\""), hint);
        };
        // What it sends to the authority that it was asked by goes to the integration, and viewers choose that authority.
        if function.http_client.iter().any(|host| host == "*") {
            return refuse(
                format!(
                    "function \"{name}\" may ask every host, so none could be told from the integration"
                ),
                Some("name the hosts that it asks in its `http-client`".to_owned()),
            );
        }
        Some(Middleware {
            function: name.clone(),
            fault_policy: spec.fault_policy.unwrap_or(FaultPolicy::Fail),
        })
    }
}
