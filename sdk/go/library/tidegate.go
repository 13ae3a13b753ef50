// Package tidegate is what a Tidegate plugin in Go is written with.
//
// A plugin is a value with a method for each step that its plugin.toml names: [Authorizer], [Throttle], [Validator],
// [RequestTransform], [Integration], [ResponseTransform], [LogSink]. [Export] names the function that makes it from a
// binding's configuration:
//
//	func init() { tidegate.Export(configure) }
//
// The request in hand is read by the functions of this package, value by value. A component imports only the interfaces
// whose functions it calls, so a binding needs grants for those only. Units and bounds are documented in the WIT package
// tidegate:gateway.
package tidegate

import (
	"encoding/json"
	"errors"

	host_keys "tidegate/bindings/tidegate_gateway_api_keys"
	host_crypto "tidegate/bindings/tidegate_gateway_crypto"
	host_http "tidegate/bindings/tidegate_gateway_http_client"
	host_jwks "tidegate/bindings/tidegate_gateway_jwks"
	host_log "tidegate/bindings/tidegate_gateway_log"
	host_output "tidegate/bindings/tidegate_gateway_log_output"
	host_metrics "tidegate/bindings/tidegate_gateway_metrics"
	host_quota "tidegate/bindings/tidegate_gateway_quota"
	host_rate "tidegate/bindings/tidegate_gateway_rate_limit"
	host_request "tidegate/bindings/tidegate_gateway_request"
	host_request_body "tidegate/bindings/tidegate_gateway_request_body"
	host_response "tidegate/bindings/tidegate_gateway_response"
	host_response_body "tidegate/bindings/tidegate_gateway_response_body"
	host_secrets "tidegate/bindings/tidegate_gateway_secrets"
	host_cache "tidegate/bindings/tidegate_gateway_shared_cache"
	host_types "tidegate/bindings/tidegate_gateway_types"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Plugin is a configured plugin; which of the step interfaces it has depends on its plugin.toml.
type Plugin any

// Configuration is a binding's, one JSON document, checked by the host against the plugin's schema.
type Configuration string

// Into reads the configuration into a struct, as encoding/json does.
func (configuration Configuration) Into(target any) error {
	return json.Unmarshal([]byte(configuration), target)
}

// Export names how a plugin is made, to be called in an init function. Its error refuses the deployment.
func Export(configure func(Configuration) (Plugin, error)) { exported = configure }

var exported func(Configuration) (Plugin, error)

// Current is the configured plugin, for the generated exports.
var Current Plugin

// Configure makes Current, for the generated exports.
func Configure(configuration string) error {
	if exported == nil {
		return errors.New("the plugin does not call tidegate.Export in an init function")
	}
	plugin, err := exported(Configuration(configuration))
	Current = plugin
	return err
}

// Authorizer decides whether a request may proceed, and who sends it. In all steps, an error means that no decision could
// be made: the binding's fault policy applies.
type Authorizer interface{ Authorize() (Verdict, error) }

// Throttle decides whether there is capacity for a request.
type Throttle interface{ Admit() (Admission, error) }

// Validator decides whether a request is what the API's definition says.
type Validator interface{ Validate() (Validity, error) }

// RequestTransform changes a request before the integration, or answers it.
type RequestTransform interface{ TransformRequest() (Outcome, error) }

// Integration decides what answers a request.
type Integration interface{ Integrate() (Plan, error) }

// ResponseTransform changes a response before it goes to the caller.
type ResponseTransform interface{ TransformResponse() ([]Edit, error) }

// LogSink writes down what happened. It takes 1 to 256 served requests, the oldest first; an error means that they were not
// written down.
type LogSink interface{ Write(records []Record) error }

// Reads names values to be handed over with each call, which costs half of asking for them. A plugin may have it beside its
// steps; a LogSink is given nothing else. At most 64.
type Reads interface{ Reads() []Reading }

// Reading is a value that the host reads by itself.
type Reading struct{ made host_types.Reading }

// ReadMethod hands over the method.
func ReadMethod() Reading { return Reading{host_types.MakeReadingMethod()} }

// ReadPath hands over the path.
func ReadPath() Reading { return Reading{host_types.MakeReadingPath()} }

// ReadQueryString hands over the query without its `?`.
func ReadQueryString() Reading { return Reading{host_types.MakeReadingQueryString()} }

// ReadHeader hands over a header field of the request.
func ReadHeader(name string) Reading { return Reading{host_types.MakeReadingHeader(name)} }

// ReadQueryParameter hands over the last value of a query parameter, decoded.
func ReadQueryParameter(name string) Reading {
	return Reading{host_types.MakeReadingQueryParameter(name)}
}

// ReadPathParameter hands over a path parameter, decoded.
func ReadPathParameter(name string) Reading {
	return Reading{host_types.MakeReadingPathParameter(name)}
}

// ReadStageVariable hands over a variable of the stage.
func ReadStageVariable(name string) Reading {
	return Reading{host_types.MakeReadingStageVariable(name)}
}

// ReadContext hands over a variable of $context, without the prefix: "requestId".
func ReadContext(name string) Reading { return Reading{host_types.MakeReadingContext(name)} }

// Readings are those of the configured plugin, for the generated exports.
func Readings() []host_types.Reading {
	plugin, reads := Current.(Reads)
	if !reads {
		return nil
	}
	var made []host_types.Reading
	for _, reading := range plugin.Reads() {
		made = append(made, reading.made)
	}
	return made
}

// Record is one served request, in the order of Reads. Nothing else is known of it: Header and its kind panic in a LogSink.
type Record struct{ values []types.Option[string] }

// RecordOf makes one, for the generated exports.
func RecordOf(values []types.Option[string]) Record { return Record{values} }

// Value is the one at this place; there is none where the request had none.
func (record Record) Value(place int) (string, bool) { return found(record.values[place]) }

// Handed is what came with the call, for the generated exports.
var Handed Record

// Given is the value at this place of Reads, in a step call; there is none where the request has none.
func Given(place int) (string, bool) { return Handed.Value(place) }

// Verdict is an authorizer's decision: made by Allow, Unauthorized or Forbidden. Its zero value is none, and an error.
type Verdict struct {
	Kind    VerdictKind
	Text    string
	Context map[string]string
	// The API key that usage is counted on, of an Allow.
	UsageIdentifierKey string
}

// VerdictKind names the outcomes.
type VerdictKind uint8

// The outcomes.
const (
	VerdictAllow VerdictKind = iota + 1
	VerdictUnauthorized
	VerdictForbidden
)

// Allow proceeds, as this principal.
func Allow(id string) Verdict { return Verdict{Kind: VerdictAllow, Text: id} }

// With adds a value of $context.authorizer.
func (verdict Verdict) With(key, value string) Verdict {
	context := map[string]string{key: value}
	for known, its := range verdict.Context {
		context[known] = its
	}
	verdict.Context = context
	return verdict
}

// Unauthorized is 401, with a WWW-Authenticate challenge unless it is empty.
func Unauthorized(challenge string) Verdict {
	return Verdict{Kind: VerdictUnauthorized, Text: challenge}
}

// Forbidden is 403; the reason is for the log.
func Forbidden(reason string) Verdict { return Verdict{Kind: VerdictForbidden, Text: reason} }

// Admission is a throttle's decision: made by Admit, Reject or Exceeded; its zero value admits.
type Admission struct {
	Kind    AdmissionKind
	RetryMs uint32
}

// AdmissionKind names the outcomes.
type AdmissionKind uint8

// The outcomes.
const (
	AdmissionAdmit AdmissionKind = iota
	AdmissionReject
	AdmissionExceeded
)

// Admit proceeds.
func Admit() Admission { return Admission{} }

// Reject is 429, with the milliseconds until a retry can succeed.
func Reject(retryMs uint32) Admission { return Admission{Kind: AdmissionReject, RetryMs: retryMs} }

// Exceeded is 429 of a quota, with the milliseconds until it begins anew.
func Exceeded(renewsInMs uint32) Admission {
	return Admission{Kind: AdmissionExceeded, RetryMs: renewsInMs}
}

// Validity is a validator's decision: made by Valid, InvalidParameters, InvalidBody or UnsupportedMediaType; its zero value is
// valid.
type Validity struct {
	Kind ValidityKind
	// For the caller.
	Message string
}

// ValidityKind names the outcomes.
type ValidityKind uint8

// The outcomes.
const (
	ValidityValid ValidityKind = iota
	ValidityInvalidParameters
	ValidityInvalidBody
	ValidityUnsupportedMediaType
)

// Valid proceeds.
func Valid() Validity { return Validity{} }

// InvalidParameters is 400, with a message for the caller.
func InvalidParameters(message string) Validity {
	return Validity{Kind: ValidityInvalidParameters, Message: message}
}

// InvalidBody is 400, with a message for the caller.
func InvalidBody(message string) Validity {
	return Validity{Kind: ValidityInvalidBody, Message: message}
}

// UnsupportedMediaType is 415.
func UnsupportedMediaType() Validity { return Validity{Kind: ValidityUnsupportedMediaType} }

// Outcome is a request transform's decision: an answer where there is one, or changes.
type Outcome struct {
	Edits   []Edit
	Respond *Response
}

// Plan is what answers a request: exactly one of Respond, Invoke and Forward.
type Plan struct {
	Respond *Response
	// The name of a function of the node.
	Invoke string
	// An absolute URI; its authority is an upstream of the node or a granted host.
	Forward string
	// The method, with Forward; the request's own where it is empty.
	Method string
	// Changes to the request, with Invoke and Forward.
	Edits []Edit
	// Milliseconds until the answer's header section is there, with Invoke and Forward; the route's timeout where it is 0.
	TimeoutMs uint32
}

// Field is a name and its value.
type Field struct{ Name, Value string }

// Response is a whole one.
type Response struct {
	Status  uint16
	Headers []Field
	Body    []byte
}

// Edit is a change to a message. They are applied in their order.
type Edit struct {
	Kind  EditKind
	Name  string
	Value string
	Body  []byte
	Code  uint16
}

// EditKind names the changes.
type EditKind uint8

// The changes.
const (
	EditSetHeader EditKind = iota
	EditAppendHeader
	EditRemoveHeader
	EditRenameHeader
	EditSetQueryParameter
	EditRemoveQueryParameter
	EditRenameQueryParameter
	EditSetPath
	EditSetStatus
	EditSetBody
)

// SetHeader sets a header field to one value, whatever it held.
func SetHeader(name, value string) Edit { return Edit{Kind: EditSetHeader, Name: name, Value: value} }

// AppendHeader adds a field line and leaves those of the same name.
func AppendHeader(name, value string) Edit {
	return Edit{Kind: EditAppendHeader, Name: name, Value: value}
}

// RemoveHeader removes all field lines of the name.
func RemoveHeader(name string) Edit { return Edit{Kind: EditRemoveHeader, Name: name} }

// RenameHeader gives all field lines of the first name the second name.
func RenameHeader(from, to string) Edit { return Edit{Kind: EditRenameHeader, Name: from, Value: to} }

// SetQueryParameter sets a query parameter; both are given decoded. Only for requests.
func SetQueryParameter(name, value string) Edit {
	return Edit{Kind: EditSetQueryParameter, Name: name, Value: value}
}

// RemoveQueryParameter removes all values of a query parameter. Only for requests.
func RemoveQueryParameter(name string) Edit { return Edit{Kind: EditRemoveQueryParameter, Name: name} }

// RenameQueryParameter gives a query parameter another name. Only for requests.
func RenameQueryParameter(from, to string) Edit {
	return Edit{Kind: EditRenameQueryParameter, Name: from, Value: to}
}

// SetPath replaces the path; percent-encoded. Only for requests.
func SetPath(path string) Edit { return Edit{Kind: EditSetPath, Value: path} }

// SetStatus sets the status code. Only for responses.
func SetStatus(code uint16) Edit { return Edit{Kind: EditSetStatus, Code: code} }

// SetBody replaces the body.
func SetBody(body []byte) Edit { return Edit{Kind: EditSetBody, Body: body} }

// Method is the request's.
func Method() string { return host_request.Method() }

// Path is the request's below the stage, percent-encoded, without the query.
func Path() string { return host_request.Path() }

// QueryString is the query without its `?`.
func QueryString() (string, bool) { return found(host_request.QueryString()) }

// Header is a header field of the request.
func Header(name string) (string, bool) { return found(host_request.Header(name)) }

// Headers are all field lines of the request, names in lower case.
func Headers() []Field { return fields(host_request.Headers()) }

// QueryParameter is the last value of a query parameter, decoded.
func QueryParameter(name string) (string, bool) { return found(host_request.QueryParameter(name)) }

// QueryParameters are all of them, decoded.
func QueryParameters() []Field { return fields(host_request.QueryParameters()) }

// PathParameter is a path parameter by its name in the route's pattern, decoded.
func PathParameter(name string) (string, bool) { return found(host_request.PathParameter(name)) }

// StageVariable is a variable of the stage.
func StageVariable(name string) (string, bool) { return found(host_request.StageVariable(name)) }

// Context is a variable of $context, without the prefix: "requestId".
func Context(name string) (string, bool) { return found(host_request.Context(name)) }

// RequestBody is the request's content. A component that calls it makes the host collect the body first.
func RequestBody() []byte { return host_request_body.Read() }

// ResponseStatus is the response's status code, in a response transform.
func ResponseStatus() uint16 { return host_response.Status() }

// ResponseHeader is a header field of the response.
func ResponseHeader(name string) (string, bool) { return found(host_response.Header(name)) }

// ResponseHeaders are all field lines of the response.
func ResponseHeaders() []Field { return fields(host_response.Headers()) }

// ResponseBody is the response's content. A component that calls it makes the host collect the body first.
func ResponseBody() []byte { return host_response_body.Read() }

// Digest is SHA-256. Grant: crypto.
func Digest(data []byte) []byte { return host_crypto.Digest(host_crypto.DigestAlgorithmSha256, data) }

// Hmac is HMAC with SHA-256. Grant: crypto.
func Hmac(key, data []byte) []byte {
	return host_crypto.Hmac(host_crypto.DigestAlgorithmSha256, key, data)
}

// EqualSecret compares in a time that depends on the lengths only. Grant: crypto.
func EqualSecret(a, b string) bool { return host_crypto.Equal([]byte(a), []byte(b)) }

// SignatureAlgorithm is one by its JOSE name.
type SignatureAlgorithm uint8

// The algorithms.
const (
	HS256 SignatureAlgorithm = iota
	HS384
	HS512
	RS256
	RS384
	RS512
	PS256
	PS384
	PS512
	ES256
	ES384
	EdDSA
)

// Verify tells whether the signature is the message's under the key, a JSON Web Key; the error is about that. Grant: crypto.
func Verify(algorithm SignatureAlgorithm, key json.RawMessage, message, signature []byte) (bool, error) {
	valid := host_crypto.Verify(uint8(algorithm), string(key), message, signature)
	if valid.IsErr() {
		return false, errors.New(valid.Err())
	}
	return valid.Ok(), nil
}

// KeySet is an identity provider's.
type KeySet struct {
	Keys []json.RawMessage `json:"keys"`
}

// FetchKeys is the key set at a URI; refresh fetches it again, at most once in 30 seconds: for a token that names an unknown
// key. Grant: jwks.
func FetchKeys(uri string, refresh bool) (KeySet, error) {
	fetched := host_jwks.Fetch(uri, refresh)
	if fetched.IsErr() {
		return KeySet{}, errors.New(fetched.Err())
	}
	var keys KeySet
	err := json.Unmarshal([]byte(fetched.Ok()), &keys)
	return keys, err
}

// Find is the key with this "kid".
func (keys KeySet) Find(id string) (json.RawMessage, bool) {
	for _, key := range keys.Keys {
		var its struct {
			ID string `json:"kid"`
		}
		if json.Unmarshal(key, &its) == nil && its.ID == id {
			return key, true
		}
	}
	return nil, false
}

// APIKey is one of the node's.
type APIKey struct{ ID, Name string }

// FindAPIKey is the enabled key of this value whose usage plan includes this API and stage. Grant: api-keys.
func FindAPIKey(value string) (APIKey, bool) {
	key := host_keys.Find(value)
	if key.IsNone() {
		return APIKey{}, false
	}
	return APIKey{ID: key.Some().Id, Name: key.Some().Name}, true
}

// WriteLines writes whole lines to the binding's destination; the host adds the line ends. Grant: log-output.
func WriteLines(lines []string) { host_output.Write(lines) }

// CacheGet is an entry of the binding's shared cache. Grant: shared-cache.
func CacheGet(key string) ([]byte, bool) {
	value := host_cache.Get(key)
	if value.IsNone() {
		return nil, false
	}
	return value.Some(), true
}

// CacheSet keeps an entry for at most so many milliseconds. Grant: shared-cache.
func CacheSet(key string, value []byte, ttlMs uint32) { host_cache.Set(key, value, ttlMs) }

// CacheDelete forgets an entry. Grant: shared-cache.
func CacheDelete(key string) { host_cache.Delete(key) }

// TakeToken takes a token from a bucket, or says how many milliseconds until there is one. Grant: rate-limit.
func TakeToken(bucket string, rate float64, burst uint32) (admitted bool, retryMs uint32) {
	taken := host_rate.Take(bucket, rate, burst)
	if taken.Tag() == host_rate.TakenAdmitted {
		return true, 0
	}
	return false, taken.Rejected()
}

// QuotaPeriod is how long a quota counts; each begins at midnight, UTC.
type QuotaPeriod uint8

// The periods.
const (
	Day QuotaPeriod = iota
	Week
	Month
)

// QuotaTerms are what a quota allows: Limit in one period; Offset is subtracted from it in the period of the first use.
type QuotaTerms struct {
	Limit, Offset uint32
	Period        QuotaPeriod
}

// QuotaTaken is how a quota stands: what may still be taken, and the milliseconds until the next period begins. Where it did
// not admit, nothing was taken.
type QuotaTaken struct {
	Admitted         bool
	Left, RenewsInMs uint32
}

// TakeQuota takes an amount from a quota, 0 to look only; it counts for all nodes. The error says why that is not possible.
// Grant: quota.
func TakeQuota(quota string, amount uint32, terms QuotaTerms) (QuotaTaken, error) {
	its := host_quota.Terms{Limit: terms.Limit, Offset: terms.Offset, Period: uint8(terms.Period)}
	result := host_quota.Take(quota, amount, its)
	if result.IsErr() {
		return QuotaTaken{}, errors.New(result.Err())
	}
	taken := result.Ok()
	if taken.Tag() == host_quota.TakenAdmitted {
		standing := taken.Admitted()
		return QuotaTaken{true, standing.Left, standing.RenewsInMs}, nil
	}
	standing := taken.Exceeded()
	return QuotaTaken{false, standing.Left, standing.RenewsInMs}, nil
}

// Secret is a secret by its name. Grant: secrets.
func Secret(name string) (string, bool) { return found(host_secrets.Get(name)) }

// Count adds to a counter of the plugin's own. Grant: metrics.
func Count(event string, amount uint32) { host_metrics.Count(event, amount) }

// Send sends a request and waits for the whole response; the error is an [HTTPError]. Grant: http-client.
func Send(method, uri string, headers []Field, body []byte, timeoutMs uint32) (Response, error) {
	request := host_http.OutgoingRequest{Method: method, Uri: uri, Headers: Tuples(headers), Body: body, TimeoutMs: timeoutMs}
	answer := host_http.Send(request)
	if answer.IsErr() {
		return Response{}, httpError(answer.Err())
	}
	response := answer.Ok()
	return Response{Status: response.Status, Headers: fields(response.Headers), Body: response.Body}, nil
}

// HTTPError is why there is no response.
type HTTPError struct {
	Kind HTTPErrorKind
	// What is known beside the kind, of HTTPDNSError, HTTPConnectionRefused and HTTPProtocolError.
	Reason string
}

// HTTPErrorKind names what can go wrong.
type HTTPErrorKind uint8

// The kinds.
const (
	HTTPDestinationNotAllowed HTTPErrorKind = iota
	HTTPDNSError
	HTTPConnectionRefused
	HTTPTimeout
	HTTPResponseTooLarge
	HTTPProtocolError
)

func (kind HTTPErrorKind) String() string {
	return [...]string{
		"the host is not granted",
		"the name could not be resolved",
		"no connection",
		"no answer in time",
		"the response is over 1 MiB",
		"the peer broke the protocol",
	}[kind]
}

func (err HTTPError) Error() string {
	if err.Reason == "" {
		return err.Kind.String()
	}
	return err.Kind.String() + ": " + err.Reason
}

func httpError(err host_http.HttpError) HTTPError {
	made := HTTPError{Kind: HTTPErrorKind(err.Tag())}
	switch made.Kind {
	case HTTPDNSError:
		made.Reason = err.DnsError()
	case HTTPConnectionRefused:
		made.Reason = err.ConnectionRefused()
	case HTTPProtocolError:
		made.Reason = err.ProtocolError()
	}
	return made
}

// LogInfo writes a line to the node's log; the others likewise.
func LogInfo(message string) { host_log.Write(host_log.LevelInfo, message) }

// LogWarn writes a warning.
func LogWarn(message string) { host_log.Write(host_log.LevelWarn, message) }

// LogError writes an error.
func LogError(message string) { host_log.Write(host_log.LevelError, message) }

// LogDebug writes what only the author wants to see.
func LogDebug(message string) { host_log.Write(host_log.LevelDebug, message) }

// Tuples is what the bindings call fields.
func Tuples(fields []Field) []types.Tuple2[string, string] {
	tuples := make([]types.Tuple2[string, string], len(fields))
	for i, field := range fields {
		tuples[i] = types.Tuple2[string, string]{F0: field.Name, F1: field.Value}
	}
	return tuples
}

func fields(tuples []types.Tuple2[string, string]) []Field {
	fields := make([]Field, len(tuples))
	for i, tuple := range tuples {
		fields[i] = Field{tuple.F0, tuple.F1}
	}
	return fields
}

func found(value types.Option[string]) (string, bool) {
	if value.IsNone() {
		return "", false
	}
	return value.Some(), true
}
