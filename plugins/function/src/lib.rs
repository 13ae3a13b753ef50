//! Answers requests by a function of the node: any `wasi:http` component.

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, Integration, Invocation, Plan, Plugin, Setup,
    StandingPlan,
};

/// The integration: which function.
#[derive(Debug)]
pub struct Function {
    invocation: Invocation,
}

impl Plugin for Function {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let name = fields.required("function")?;
        let function = name.string()?;
        if function.is_empty() {
            return Err(name.error("must name a function of the node's configuration"));
        }
        let timeout_ms = match fields.optional("timeoutMs") {
            Some(timeout) => Some(timeout.integer(1, TIMEOUT_MS_MAX)?),
            None => None,
        };
        fields.finish()?;
        let invocation = Invocation {
            function,
            edits: Vec::new(),
            timeout_ms,
        };
        let plan = StandingPlan::Invoke(invocation.clone());
        Ok(Setup::new(Self { invocation }).plan(plan))
    }
}

impl Integration for Function {
    fn integrate(&self, _given: Given) -> Result<Plan, String> {
        Ok(Plan::Invoke(self.invocation.clone()))
    }
}

/// Five minutes: API Gateway's longest, after an increase of the account's limit.
const TIMEOUT_MS_MAX: u32 = 300_000;

tidegate_plugin::export!(Function: integration);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<Function>, String> {
        Configuration::parse(text)
            .and_then(Function::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_decision_stands_and_is_what_a_call_would_give() {
        let setup = configure(r#"{"function": "items", "timeoutMs": 500}"#).unwrap();
        let Some(StandingPlan::Invoke(standing)) = &setup.standing().plan else {
            panic!("no standing invocation");
        };
        assert_eq!(standing.function, "items");
        assert_eq!(standing.timeout_ms, Some(500));
        let called = setup.plugin().integrate(Given::default());
        assert_eq!(called, Ok(Plan::Invoke(standing.clone())));
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            ("{}", "/function: is missing"),
            (r#"{"function": ""}"#, "/function: must name"),
            (
                r#"{"function": "a", "timeoutMs": 0}"#,
                "/timeoutMs: must be a whole number",
            ),
            (
                r#"{"function": "a", "timeout": 1}"#,
                "/timeout: unknown key",
            ),
        ];
        for (text, start) in cases {
            let error = configure(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }

    #[test]
    fn the_example_is_valid() {
        configure(include_str!("../example.json")).unwrap();
    }
}
