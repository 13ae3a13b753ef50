//! `tidegate plugin test`: the folder's cases, in the sandbox that the node runs plugins in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use tidegate_sandbox::standing::{FieldText, Rule, Template};
use tidegate_sandbox::wit::{Admission, Edit, Outcome, Plan, Response, Validity, Verdict};
use tidegate_sandbox::{
    BindError, Binding, BindingOptions, Decision, Exchange, Fault, FunctionOptions, FunctionPool,
    Grants, Limits, Plugin, Pool, Runtime, Settings, Step,
};

use super::build;
use super::case::{self, Case, CaseExchange, Surroundings};
use super::diff::{Difference, differences};
use super::inspect;
use super::manifest::{Kind, Manifest};
use super::services::{CaseServices, Told};
use crate::configuration;

/// Builds, unless a component is given, and runs every case; fails where one does.
pub fn run(
    folder: &Path,
    component: Option<&Path>,
    kept: Option<&Path>,
    json: bool,
) -> Result<ExitCode> {
    let manifest = Manifest::read(folder)?;
    let component = match component {
        Some(component) => component.to_owned(),
        None => {
            build::build(&manifest)?;
            manifest.component()
        }
    };
    let bytes = std::fs::read(&component).with_context(|| component.display().to_string())?;
    let mut settings = Settings {
        instances_max: 64, // a Python component alone has 38 core instances
        ..Settings::default()
    };
    match kept {
        Some(kept) => settings.artifacts = Some(kept.to_owned()),
        None => {
            settings.artifacts = Some(manifest.build_folder().join(inspect::ARTIFACTS));
            settings.artifact_bytes_max = 0; // the newest build's only: each edit makes another
        }
    }
    let runtime = Runtime::new(settings)?;
    let subject = match manifest.kind {
        Kind::Steps(_) => Subject::Plugin(runtime.plugin(&bytes)?),
        Kind::Function => Subject::Function(runtime.function(&bytes)?),
    };
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut results = Vec::new();
    for file in case_files(&manifest)? {
        let (surroundings, cases) = case::read(&file)?;
        for case in cases {
            results.push(tokio.block_on(run_case(&subject, &file, &surroundings, case))?);
        }
    }
    report(&results, &manifest, json);
    Ok(match results.iter().all(CaseResult::passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

enum Subject {
    Plugin(Arc<Plugin>),
    Function(Arc<tidegate_sandbox::Function>),
}

struct CaseResult {
    file: PathBuf,
    name: String,
    differences: Vec<Difference>,
    log: Vec<String>,
}

impl CaseResult {
    fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

fn case_files(manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let folder = manifest.folder.join("cases");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    ensure!(
        !files.is_empty(),
        "there are no cases in {}: a file of any name that ends in .toml",
        folder.display()
    );
    files.sort();
    Ok(files)
}

async fn run_case(
    subject: &Subject,
    file: &Path,
    surroundings: &Surroundings,
    case: Case,
) -> Result<CaseResult> {
    let services = Arc::new(CaseServices::new(surroundings.clone()));
    let actual = match subject {
        Subject::Plugin(plugin) => decide(plugin, &services, &case)
            .await
            .with_context(|| format!("case \"{}\"", case.name))?,
        Subject::Function(function) => invoke(function.clone(), &services, case.exchange).await,
    };
    let Told {
        log,
        lines,
        counted,
    } = services.told();
    let mut actual = actual;
    if let Some(members) = actual.as_object_mut() {
        members.insert("lines".into(), lines.into());
        members.insert("log".into(), log.clone().into());
        members.insert("counted".into(), json!(counted));
    }
    Ok(CaseResult {
        file: file.to_owned(),
        name: case.name,
        differences: differences(&case.expect, &actual),
        log,
    })
}

/// Binds the plugin with the case's configuration, and asks it.
async fn decide(plugin: &Arc<Plugin>, services: &Arc<CaseServices>, case: &Case) -> Result<Value> {
    let mut steps = plugin.steps();
    let step = match (case.step, steps.next(), steps.next()) {
        (Some(step), _, _) => step,
        (None, Some(step), None) => step,
        _ => bail!("the plugin has several steps: the case has to name its `step`"),
    };
    if let Err(problem) = configuration::check(plugin, &case.configuration) {
        return Ok(json!({ "refused": problem }));
    }
    let options = BindingOptions {
        name: case.name.clone(),
        step,
        configuration: case.configuration.to_string(),
        grants: all_grants(services),
        limits: limits(),
        reuse: true,
    };
    let binding = match Binding::new(plugin.clone(), options, services.clone()).await {
        Ok(binding) => binding,
        Err(BindError::Configure(Fault::Start(reason))) => {
            return Ok(json!({ "refused": reason }));
        }
        Err(error) => return Err(error.into()),
    };
    let exchange: Arc<dyn Exchange> = Arc::new(case.exchange.clone());
    match &binding.setup.decision {
        Decision::Rules(rules) => {
            let edits: Vec<Value> = rules
                .iter()
                .filter_map(|rule| rule_value(rule, &*exchange))
                .collect();
            return Ok(json!({ "edits": edits, "standing": true }));
        }
        Decision::Plan(plan) => {
            return Ok(json!({ "plan": format!("{plan:?}"), "standing": true }));
        }
        Decision::Call => {}
    }
    let pool = Pool::new(binding);
    let decision = match step {
        Step::Authorizer => pool.authorize(exchange).await.map(verdict_value),
        Step::Throttle => pool.admit(exchange).await.map(admission_value),
        Step::Validator => pool.validate(exchange).await.map(validity_value),
        Step::RequestTransform => pool.transform_request(exchange).await.map(outcome_value),
        Step::Integration => pool.integrate(exchange).await.map(plan_value),
        Step::ResponseTransform => pool.transform_response(exchange).await.map(edits_value),
        Step::LogSink => {
            let reads = &pool.binding().setup.reads;
            let record = reads
                .iter()
                .map(|reading| reading.of(&*exchange).map(Into::into))
                .collect();
            pool.write_records(&[record])
                .await
                .map(|()| json!({ "written": true }))
        }
    };
    Ok(decision.unwrap_or_else(fault_value))
}

/// Everything that can be granted: whether a binding grants it is not what a case is about.
fn all_grants(services: &CaseServices) -> Grants {
    Grants {
        crypto: true,
        jwks: vec!["*".to_owned()],
        rate_limit: true,
        api_keys: true,
        shared_cache: true,
        http_client: vec!["*".to_owned()],
        secrets: services.secret_names(),
        metrics: true,
        log_output: Some("case".to_owned()),
    }
}

fn limits() -> Limits {
    Limits {
        deadline: Duration::from_secs(2),
        start_deadline: Duration::from_secs(10),
        memory_bytes: 256 << 20,
        instances_max: 4,
    }
}

async fn invoke(
    function: Arc<tidegate_sandbox::Function>,
    services: &Arc<CaseServices>,
    exchange: CaseExchange,
) -> Value {
    let options = FunctionOptions {
        name: "function".to_owned(),
        environment: Vec::new(),
        tables: Vec::new(),
        http_client: Vec::new(),
        limits: limits(),
        reuse: true,
    };
    let pool = FunctionPool::new(function, options, services.clone(), Arc::default());
    let query = exchange.query.map(|query| format!("?{query}"));
    let mut request = Request::builder()
        .method(exchange.method.as_str())
        .uri(format!(
            "http://case.test{}{}",
            exchange.path,
            query.unwrap_or_default()
        ));
    if let Some(headers) = request.headers_mut() {
        *headers = exchange.headers;
    }
    let body = Full::new(exchange.body)
        .map_err(|error| tidegate_sandbox::function::BodyFailure(error.to_string()));
    let request = match request.body(body) {
        Ok(request) => request,
        Err(error) => return json!({ "refused": error.to_string() }),
    };
    let response = match pool.invoke(request).await {
        Ok(response) => response,
        Err(fault) => return fault_value(fault),
    };
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => json!({ "response": {
            "status": head.status.as_u16(),
            "headers": fields_value(&head.headers),
            "body": String::from_utf8_lossy(&body.to_bytes()),
        } }),
        Err(error) => json!({ "fault": error.to_string() }),
    }
}

fn fields_value(headers: &HeaderMap) -> Value {
    headers
        .keys()
        .map(|name| {
            let value = tidegate_sandbox::exchange::field(headers, name);
            (name.as_str().to_owned(), json!(value))
        })
        .collect::<Map<_, _>>()
        .into()
}

fn verdict_value(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Allow(principal) => json!({ "allow": {
            "id": principal.id,
            "context": principal.context.into_iter().map(|(key, value)| (key, value.into())).collect::<Map<_, _>>(),
            "usage-identifier-key": principal.usage_identifier_key,
        } }),
        Verdict::Unauthorized(challenge) => json!({ "unauthorized": challenge }),
        Verdict::Forbidden(reason) => json!({ "forbidden": reason }),
    }
}

fn admission_value(admission: Admission) -> Value {
    match admission {
        Admission::Admit => json!({ "admit": true }),
        Admission::Reject(retry_ms) => json!({ "reject": retry_ms }),
    }
}

fn validity_value(validity: Validity) -> Value {
    match validity {
        Validity::Valid => json!({ "valid": true }),
        Validity::InvalidParameters(message) => json!({ "invalid-parameters": message }),
        Validity::InvalidBody(message) => json!({ "invalid-body": message }),
        Validity::UnsupportedMediaType => json!({ "unsupported-media-type": true }),
    }
}

fn outcome_value(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Edits(edits) => edits_value(edits),
        Outcome::Respond(response) => json!({ "respond": response_value(response) }),
    }
}

fn plan_value(plan: Plan) -> Value {
    match plan {
        Plan::Forward(forward) => json!({ "forward": {
            "uri": forward.uri,
            "method": forward.method,
            "edits": edit_values(forward.edits),
            "timeout-ms": forward.timeout_ms,
        } }),
        Plan::Invoke(invocation) => json!({ "invoke": {
            "function": invocation.function,
            "edits": edit_values(invocation.edits),
            "timeout-ms": invocation.timeout_ms,
        } }),
        Plan::Respond(response) => json!({ "respond": response_value(response) }),
    }
}

fn response_value(response: Response) -> Value {
    let headers: Map<_, _> = response
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    json!({
        "status": response.status,
        "headers": headers,
        "body": String::from_utf8_lossy(&response.body),
    })
}

fn edits_value(edits: Vec<Edit>) -> Value {
    json!({ "edits": edit_values(edits) })
}

fn edit_values(edits: Vec<Edit>) -> Vec<Value> {
    edits.into_iter().map(edit_value).collect()
}

/// An edit by its name in the WIT.
fn edit_value(edit: Edit) -> Value {
    match edit {
        Edit::SetHeader((name, value)) => json!({ "set-header": [name, value] }),
        Edit::AppendHeader((name, value)) => json!({ "append-header": [name, value] }),
        Edit::RemoveHeader(name) => json!({ "remove-header": name }),
        Edit::RenameHeader((from, to)) => json!({ "rename-header": [from, to] }),
        Edit::SetQueryParameter((name, value)) => json!({ "set-query-parameter": [name, value] }),
        Edit::RemoveQueryParameter(name) => json!({ "remove-query-parameter": name }),
        Edit::RenameQueryParameter((from, to)) => json!({ "rename-query-parameter": [from, to] }),
        Edit::SetPath(path) => json!({ "set-path": path }),
        Edit::SetStatus(status) => json!({ "set-status": status }),
        Edit::SetBody(body) => json!({ "set-body": String::from_utf8_lossy(&body) }),
    }
}

/// What a rule that stands does to this message; nothing where the values it reads are absent.
fn rule_value(rule: &Rule, exchange: &dyn Exchange) -> Option<Value> {
    let written = |template: &Template| {
        let mut text = String::new();
        template.write(exchange, &mut text).then_some(text)
    };
    let field = |text: &FieldText| match text {
        FieldText::Fixed(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        FieldText::Template(template) => written(template),
    };
    Some(match rule {
        Rule::SetHeader(name, text) => json!({ "set-header": [name.as_str(), field(text)?] }),
        Rule::AppendHeader(name, text) => json!({ "append-header": [name.as_str(), field(text)?] }),
        Rule::RemoveHeader(name) => json!({ "remove-header": name.as_str() }),
        Rule::RenameHeader(from, to) => json!({ "rename-header": [from.as_str(), to.as_str()] }),
        Rule::SetQueryParameter(name, text) => {
            json!({ "set-query-parameter": [name, written(text)?] })
        }
        Rule::RemoveQueryParameter(name) => json!({ "remove-query-parameter": name }),
        Rule::RenameQueryParameter(from, to) => json!({ "rename-query-parameter": [from, to] }),
        Rule::SetPath(text) => json!({ "set-path": written(text)? }),
        Rule::SetStatus(status) => json!({ "set-status": status.as_u16() }),
    })
}

fn fault_value(fault: Fault) -> Value {
    match fault {
        Fault::Answered(reason) => json!({ "error": reason }),
        fault => json!({ "fault": fault.to_string() }),
    }
}

fn report(results: &[CaseResult], manifest: &Manifest, json: bool) {
    let failed = results.iter().filter(|result| !result.passed()).count();
    let passed = results.len() - failed;
    if json {
        let cases: Vec<Value> = results.iter().map(result_json).collect();
        println!(
            "{}",
            json!({ "plugin": manifest.name, "version": manifest.version, "passed": passed, "failed": failed, "cases": cases })
        );
        return;
    }
    for result in results {
        let mark = if result.passed() { "ok  " } else { "FAIL" };
        println!("{mark} {}", result.name);
        if !result.passed() {
            println!("    in {}", result.file.display());
            for difference in &result.differences {
                print!("{}", difference.text());
            }
            for line in &result.log {
                println!("    log: {line}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
}

fn result_json(result: &CaseResult) -> Value {
    let differences: Vec<Value> = result
        .differences
        .iter()
        .map(|difference| {
            json!({
                "pointer": difference.pointer,
                "expected": difference.expected,
                "actual": difference.actual,
            })
        })
        .collect();
    json!({
        "name": result.name,
        "file": result.file,
        "passed": result.passed(),
        "differences": differences,
        "log": result.log,
    })
}
