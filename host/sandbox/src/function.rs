//! Functions: `wasi:http` components, 0.2 and 0.3, unchanged.
//!
//! A function answers with a response whose body may still be on its way while the component runs. Both are one future
//! here: [`FunctionBody`] drives the component whenever the body is polled, so a slow viewer holds the component back, a
//! viewer that leaves ends it, and no task has to be started for a request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{InstancePre, ResourceTable};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme as GuestScheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::Request as ConcurrentRequest;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::account::{Account, Capability};
use crate::capabilities::{Services, host_is_granted};
use crate::fault::Fault;
use crate::instance::describe;
use crate::limits::{Alive, Limits, Meter};
use crate::next::{Ask, Next};
use crate::recent::Recent;
use crate::shared_code::Code;
use crate::wasi;
use crate::wit::HttpError;

/// A compiled function.
pub struct Function {
    pub(crate) handler: Handler,
    /// The cases that it carries, in its embedder's own format.
    pub cases: Option<String>,
    /// SHA-256 of the component, in hex.
    pub hash: String,
    pub(crate) _code: Code,
}

/// Which handler a function exports.
pub(crate) enum Handler {
    Incoming(ProxyPre<FunctionState>),
    Concurrent(ServicePre<FunctionState>),
}

impl Handler {
    pub(crate) fn incoming(pre: InstancePre<FunctionState>) -> wasmtime::Result<Self> {
        ProxyPre::new(pre).map(Self::Incoming)
    }

    pub(crate) fn concurrent(pre: InstancePre<FunctionState>) -> wasmtime::Result<Self> {
        ServicePre::new(pre).map(Self::Concurrent)
    }
}

/// What is chosen about a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionOptions {
    /// Its name in the node's configuration.
    pub name: String,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Tables that it may open.
    pub tables: Vec<String>,
    /// Hosts (`host` or `host:port`) that it may send requests to.
    pub http_client: Vec<String>,
    /// Its bounds; the deadline is for a whole invocation, body included.
    pub limits: Limits,
    /// Whether an instance serves many requests, or one.
    pub reuse: bool,
}

/// The instances that one worker thread keeps of a function.
#[derive(Clone)]
pub struct FunctionPool(Arc<Shared>);

struct Shared {
    core: Arc<Core>,
    /// A lock, since an instance rides in its response's body and comes back when that ends; it is this thread's alone, so
    /// it is never contended.
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    instances: Vec<FunctionInstance>,
    in_use: usize,
}

/// What host functions need of a function.
pub(crate) struct Core {
    function: Arc<Function>,
    pub(crate) options: FunctionOptions,
    pub(crate) services: Arc<dyn Services>,
    pub(crate) account: Arc<Account>,
}

struct FunctionInstance {
    store: Store<FunctionState>,
    exports: Exports,
    calls: u32,
}

enum Exports {
    Incoming(Proxy),
    Concurrent(Service),
}

type Answer = Result<Response<WasiBody>, ErrorCode>;
type Driver = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

impl FunctionPool {
    /// An empty pool; the first invocation makes the first instance. `account` is shared by the pools of all threads.
    pub fn new(
        function: Arc<Function>,
        options: FunctionOptions,
        services: Arc<dyn Services>,
        account: Arc<Account>,
    ) -> Self {
        let core = Arc::new(Core {
            function,
            options,
            services,
            account,
        });
        Self(Arc::new(Shared {
            core,
            idle: Mutex::default(),
        }))
    }

    /// Invokes the function and returns its response as soon as there is one.
    ///
    /// `request` carries an absolute URI or a `Host` field.
    ///
    /// # Errors
    ///
    /// The fault, where the component ends without a response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the response's body before its end, drops the instance.
    pub async fn invoke<B>(&self, request: Request<B>) -> Result<Response<FunctionBody>, Fault>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.begin(request, None).await
    }

    /// As [`Self::invoke`], where the function stands around something: what it asks of that comes by `asks`, until it and
    /// its response's body have ended.
    ///
    /// The authority of `request` must be none that the function [may ask](Self::may_ask) by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::invoke`]; [`Fault::Answered`] also where it passes on that what is next could not be asked.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::invoke`]; the answers that it waits for are closed then.
    pub async fn invoke_around<B>(
        &self,
        request: Request<B>,
        asks: mpsc::Sender<Ask>,
    ) -> Result<Response<FunctionBody>, Fault>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let next = Next::new(request.uri(), asks);
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.begin(request, Some(next)).await
    }

    /// Whether the function may ask the host of `uri`.
    pub fn may_ask(&self, uri: &Uri) -> bool {
        host_is_granted(&self.0.core.options.http_client, uri)
    }

    async fn begin(
        &self,
        request: Request<WasiBody>,
        next: Option<Next>,
    ) -> Result<Response<FunctionBody>, Fault> {
        let (answer, mut answered) = oneshot::channel();
        let mut driver: Driver = Box::pin(self.clone().drive(request, next, answer));

        // The answer is looked at first: a function may answer and trap afterwards.
        let ended = tokio::select! {
            biased;
            answer = &mut answered => return Ok(respond(received(answer)?, Some(driver))),
            ended = &mut driver => ended,
        };
        match answered.try_recv() {
            Ok(answer) => {
                let response = received(Ok(answer))?;
                Ok(match ended {
                    Ok(()) => respond(response, None),
                    Err(fault) => respond(response, Some(Box::pin(async { Err(fault) }))),
                })
            }
            Err(_) => Err(ended
                .err()
                .unwrap_or_else(|| Fault::Trap("it ended without a response".to_owned()))),
        }
    }

    /// Calls within the deadline, and keeps account of it.
    async fn drive(
        self,
        request: Request<WasiBody>,
        next: Option<Next>,
        answer: oneshot::Sender<Answer>,
    ) -> Result<(), Fault> {
        let began = Instant::now();
        let core = &self.0.core;
        let deadline = core.options.limits.deadline;
        let call = async {
            match tokio::time::timeout(deadline, self.call(request, next, answer)).await {
                Ok(ended) => ended,
                Err(_) => Err(Fault::Deadline(deadline)),
            }
        };
        let ended = core.account.of_call(began, call).await;
        if let Err(fault) = &ended {
            core.services.fault(&core.options.name, None, fault);
        }
        ended
    }

    async fn call(
        &self,
        request: Request<WasiBody>,
        next: Option<Next>,
        answer: oneshot::Sender<Answer>,
    ) -> Result<(), Fault> {
        let mut lease = self.take().await?;
        let instance = lease.instance.as_mut().expect("taken only below");
        instance.calls = instance.calls.saturating_add(1);
        instance.store.data_mut().hooks.next = next;
        let handled = instance.handle(request, answer).await;
        instance.store.data_mut().hooks.next = None;
        match handled {
            Ok(()) => {
                lease.put_back();
                Ok(())
            }
            Err(error) => Err(instance.store.data().fault(&error)),
        }
    }

    async fn take(&self) -> Result<Lease, Fault> {
        let idle = {
            let mut idle = self.lock();
            if idle.in_use >= self.0.core.options.limits.instances_max {
                return Err(Fault::Busy);
            }
            idle.in_use += 1;
            idle.instances.pop()
        };
        let mut lease = Lease {
            pool: self.clone(),
            instance: idle,
        };
        if lease.instance.is_none() {
            lease.instance = Some(Box::pin(FunctionInstance::start(&self.0.core)).await?);
            self.0.core.account.instance_started();
        }
        Ok(lease)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for _ in idle.instances.drain(..) {
            self.core.account.instance_dropped();
        }
    }
}

/// An instance in use; dropped, it is gone, unless [`Lease::put_back`] came first.
struct Lease {
    pool: FunctionPool,
    instance: Option<FunctionInstance>,
}

impl Lease {
    fn put_back(mut self) {
        let reuse = self.pool.0.core.options.reuse;
        let sound = |instance: &mut FunctionInstance| reuse && instance.calls < CALLS_MAX;
        if let Some(instance) = self.instance.take_if(sound) {
            self.pool.lock().instances.push(instance);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.lock().in_use -= 1;
        if self.instance.take().is_some() {
            self.pool.0.core.account.instance_dropped();
        }
    }
}

impl FunctionInstance {
    async fn start(core: &Arc<Core>) -> Result<Self, Fault> {
        let deadline = core.options.limits.start_deadline;
        match tokio::time::timeout(deadline, Self::start_unbounded(core)).await {
            Ok(started) => started,
            Err(_) => Err(Fault::Start(format!("it took longer than {deadline:?}"))),
        }
    }

    async fn start_unbounded(core: &Arc<Core>) -> Result<Self, Fault> {
        let state = FunctionState::new(core.clone());
        let (engine, handler) = match &core.function.handler {
            Handler::Incoming(pre) => (pre.engine(), &core.function.handler),
            Handler::Concurrent(pre) => (pre.engine(), &core.function.handler),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.meter);
        store.epoch_deadline_callback(|_: StoreContextMut<'_, FunctionState>| {
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        store.set_epoch_deadline(1);
        let exports = match handler {
            Handler::Incoming(pre) => pre
                .instantiate_async(&mut store)
                .await
                .map(Exports::Incoming),
            Handler::Concurrent(pre) => pre
                .instantiate_async(&mut store)
                .await
                .map(Exports::Concurrent),
        };
        match exports {
            Ok(exports) => Ok(Self {
                store,
                exports,
                calls: 0,
            }),
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => Err(Fault::Busy),
            Err(error) => Err(Fault::Start(describe(&error))),
        }
    }

    async fn handle(
        &mut self,
        request: Request<WasiBody>,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        self.store.set_epoch_deadline(1);
        match &self.exports {
            Exports::Incoming(proxy) => {
                let scheme = match request.uri().scheme() {
                    Some(scheme) if *scheme == Scheme::HTTPS => GuestScheme::Https,
                    _ => GuestScheme::Http,
                };
                let request = self
                    .store
                    .data_mut()
                    .http()
                    .new_incoming_request(scheme, request)?;
                let outparam = self.store.data_mut().http().new_response_outparam(answer)?;
                proxy
                    .wasi_http_incoming_handler()
                    .call_handle(&mut self.store, request, outparam)
                    .await
            }
            Exports::Concurrent(service) => {
                handle_concurrently(&mut self.store, service, request, answer).await
            }
        }
    }
}

async fn handle_concurrently(
    store: &mut Store<FunctionState>,
    service: &Service,
    request: Request<WasiBody>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let (request, _processed) = ConcurrentRequest::from_http(&mut store.data_mut().hooks, request);
    store
        .run_concurrent(async |accessor| {
            let response = match service.handle(accessor, request).await? {
                Ok(response) => response,
                Err(code) => {
                    _ = answer.send(Err(ErrorCode::InternalError(Some(format!("{code:?}")))));
                    return Ok(());
                }
            };
            // The body's frames pass through this store, so it has to run until the last one is out.
            let (sent, body_sent) = oneshot::channel::<()>();
            let response = accessor.with(|store| response.into_http(store, async { Ok(()) }))?;
            let response = response.map(|body| Tracked { body, _sent: sent }.boxed_unsync());
            _ = answer.send(Ok(response));
            _ = body_sent.await; // the sender is dropped with the body
            Ok(())
        })
        .await?
}

/// A body whose end can be waited for.
struct Tracked {
    body: WasiBody,
    _sent: oneshot::Sender<()>,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn received(
    answer: Result<Answer, oneshot::error::RecvError>,
) -> Result<Response<WasiBody>, Fault> {
    match answer {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(code)) => Err(Fault::Answered(format!("{code:?}"))),
        Err(_) => Err(Fault::Trap("it ended without a response".to_owned())),
    }
}

fn respond(response: Response<WasiBody>, driver: Option<Driver>) -> Response<FunctionBody> {
    response.map(|body| match driver {
        None => FunctionBody::finished(body),
        Some(driver) => FunctionBody {
            body: Content::Streaming(body),
            driver: Some(driver),
        },
    })
}

/// The body of a function's response, which drives the component that writes it.
pub struct FunctionBody {
    body: Content,
    driver: Option<Driver>,
}

enum Content {
    /// Everything there is: the component had ended when the response was taken.
    Whole(Option<Bytes>),
    Streaming(WasiBody),
}

impl FunctionBody {
    /// A component that has ended has written all of its body; where that is one piece, its length is known.
    fn finished(mut body: WasiBody) -> Self {
        let mut piece = None;
        loop {
            match body.frame().now_or_never() {
                Some(None) => {
                    return Self {
                        body: Content::Whole(piece),
                        driver: None,
                    };
                }
                Some(Some(Ok(frame))) if piece.is_none() && frame.is_data() => {
                    piece = frame.into_data().ok()
                }
                Some(Some(frame)) => return Self::rest(piece, frame, body),
                None => return Self::rest(piece, Ok(Frame::data(Bytes::new())), body),
            }
        }
    }

    fn rest(
        piece: Option<Bytes>,
        frame: Result<Frame<Bytes>, wasmtime_wasi_http::Error>,
        body: WasiBody,
    ) -> Self {
        use http_body_util::StreamBody;
        let first = piece.map(|piece| Ok(Frame::data(piece)));
        let known = futures_util::stream::iter(first.into_iter().chain([frame]));
        let body = futures_util::StreamExt::chain(known, http_body_util::BodyStream::new(body));
        Self {
            body: Content::Streaming(UnsyncBoxBody::new(StreamBody::new(body))),
            driver: None,
        }
    }

    /// The whole content, where it is all there.
    pub fn whole(&self) -> Option<Bytes> {
        match &self.body {
            Content::Whole(piece) => Some(piece.clone().unwrap_or_default()),
            Content::Streaming(_) => None,
        }
    }
}

/// Why a function's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum FunctionBodyError {
    /// The component failed.
    #[error("the function {0}")]
    Fault(#[from] Fault),
    /// The component gave up on the body.
    #[error("the function left its body unfinished: {0:?}")]
    Unfinished(wasmtime_wasi_http::Error),
}

impl Body for FunctionBody {
    type Data = Bytes;
    type Error = FunctionBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(driver) = &mut this.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(context)
        {
            this.driver = None;
            if let Err(fault) = ended {
                return Poll::Ready(Some(Err(fault.into())));
            }
        }
        match &mut this.body {
            Content::Whole(piece) => Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece)))),
            Content::Streaming(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                if frame.is_none()
                    && let Some(driver) = this.driver.take()
                {
                    // The body is out; what the component still does, within its deadline, nobody waits for.
                    tokio::spawn(driver);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(FunctionBodyError::Unfinished)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.body, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Whole(piece) => {
                SizeHint::with_exact(piece.as_ref().map_or(0, |piece| piece.len() as u64))
            }
            Content::Streaming(body) => body.size_hint(),
        }
    }
}

/// What the host functions of a function's instance work on.
pub struct FunctionState {
    pub(crate) function: Arc<Core>,
    pub(crate) table: ResourceTable,
    meter: Meter,
    _alive: Alive,
    /// The last lines that it printed.
    recent: Recent,
    /// Made at the first use: many functions never print or look at their environment.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl FunctionState {
    fn new(function: Arc<Core>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            meter: Meter::new(
                function.options.limits.memory_bytes,
                function.account.clone(),
            ),
            _alive: Alive::new(),
            recent: Recent::default(),
            wasi: None,
            http: WasiHttpCtx::new(),
            hooks: Hooks {
                function: function.clone(),
                next: None,
            },
            function,
        }
    }

    fn fault(&self, error: &wasmtime::Error) -> Fault {
        if self.meter.refused {
            return Fault::Memory(self.function.options.limits.memory_bytes);
        }
        Fault::Trap(self.recent.below(describe(error)))
    }
}

impl WasiView for FunctionState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let function = &self.function;
        let ctx = self.wasi.get_or_insert_with(|| {
            let name = function.options.name.as_str().into();
            let environment = &function.options.environment;
            wasi::function_context(&function.services, &name, environment, &self.recent)
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for FunctionState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Outgoing requests of a function: to what is next, where it stands around something; else to the hosts it was granted,
/// through the node's own client.
struct Hooks {
    function: Arc<Core>,
    /// For as long as a call lasts.
    next: Option<Next>,
}

type Sent = wasmtime_wasi_http::Result<(
    Response<WasiBody>,
    Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
)>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN_FIELDS.contains(&name.as_str())
    }

    fn forbidden_header_filter(&mut self) -> wasmtime_wasi_http::ForbiddenHeaderFilter {
        Arc::new(|name| FORBIDDEN_FIELDS.contains(&name.as_str()))
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let timeout = options.and_then(|options| options.first_byte_timeout);
        if let Some(next) = self.next.as_ref().filter(|it| it.is_asked(request.uri())) {
            let response = next.ask(request, timeout);
            return Box::new(async move { Ok((response.await?, nothing_more())) });
        }
        self.function.account.host_called(Capability::HttpClient);
        if !host_is_granted(&self.function.options.http_client, request.uri()) {
            return Box::new(std::future::ready(Err(
                wasmtime_wasi_http::Error::HttpRequestDenied,
            )));
        }
        // A function that sends on what it got has a second one among its fields.
        if let Some(host) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(host.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        let response = self.function.services.send_streaming(request);
        Box::new(async move {
            match tokio::time::timeout(timeout.unwrap_or(OUTGOING_TIMEOUT), response).await {
                Ok(Ok(response)) => Ok((response, nothing_more())),
                Ok(Err(error)) => Err(outgoing_error(error)),
                Err(_) => Err(wasmtime_wasi_http::Error::HttpResponseTimeout),
            }
        })
    }
}

/// What the component is told of a request once its response is there.
fn nothing_more() -> Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send> {
    Box::new(std::future::ready(Ok(())))
}

pub(crate) fn outgoing_error(error: HttpError) -> wasmtime_wasi_http::Error {
    use wasmtime_wasi_http::Error;
    match error {
        HttpError::DestinationNotAllowed => Error::HttpRequestDenied,
        HttpError::DnsError(rcode) => Error::DnsError {
            rcode: Some(rcode),
            info_code: None,
        },
        HttpError::ConnectionRefused(_) => Error::ConnectionRefused,
        HttpError::Timeout => Error::HttpResponseTimeout,
        HttpError::ResponseTooLarge => Error::HttpResponseBodySize(None),
        HttpError::ProtocolError(_) => Error::HttpProtocolError,
    }
}

/// Fields of the connection, which are the host's (RFC 9110 section 7.6.1).
const FORBIDDEN_FIELDS: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
];
/// A guest that leaks a little for each request gets a new instance before that matters.
const CALLS_MAX: u32 = 100_000;
/// Streams, bodies and fields that an instance may hold at once.
const RESOURCES_MAX: usize = 10_000;
/// Until the response's header section, where the function names no time.
const OUTGOING_TIMEOUT: Duration = Duration::from_secs(29);

/// A request body that failed, as the function's host sees it.
#[derive(Debug)]
pub struct BodyFailure(pub String);

impl From<BodyFailure> for wasmtime_wasi_http::Error {
    fn from(failure: BodyFailure) -> Self {
        Self::InternalError(Some(failure.0))
    }
}
