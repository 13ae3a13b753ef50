// Package function is what a function in Go is written with: a standard wasi:http component around an [http.Handler].
//
//	func init() { function.Serve(http.HandlerFunc(greet)) }
//
// The request's body is read before the handler is called, and the response is sent when it returns. A panic is a fault of
// this one request.
package function

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	host "tidegate/bindings/wasi_http_types"
	streams "tidegate/bindings/wasi_io_streams"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Serve names the handler, to be called in an init function.
func Serve(handler http.Handler) { served = handler }

var served http.Handler = http.NotFoundHandler()

// Handle is called by the generated export.
func Handle(incoming *host.IncomingRequest, out *host.ResponseOutparam) {
	request, err := received(incoming)
	response := recorder{status: http.StatusOK, header: http.Header{}}
	if err != nil {
		http.Error(&response, err.Error(), http.StatusBadRequest)
	} else {
		served.ServeHTTP(&response, request)
	}
	response.send(out)
}

func received(incoming *host.IncomingRequest) (*http.Request, error) {
	target := incoming.PathWithQuery().SomeOr("/")
	authority := incoming.Authority().SomeOr("")
	headers := incoming.Headers()
	entries := headers.Entries()
	headers.Drop()
	method := methodOf(incoming.Method())
	body := content(incoming)
	request, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.RequestURI = target
	request.Host = authority
	for _, entry := range entries {
		request.Header.Add(entry.F0, string(entry.F1))
	}
	return request, nil
}

func methodOf(method host.Method) string {
	if method.Tag() == host.MethodOther {
		return method.Other()
	}
	return methods[method.Tag()]
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func content(incoming *host.IncomingRequest) []byte {
	consumed := incoming.Consume()
	if consumed.IsErr() {
		return nil
	}
	body := consumed.Ok()
	var collected []byte
	if opened := body.Stream(); opened.IsOk() {
		stream := opened.Ok()
		for {
			read := stream.BlockingRead(16 * chunk)
			if read.IsErr() {
				break // the end, or the sender left: the host knows which
			}
			collected = append(collected, read.Ok()...)
		}
		stream.Drop()
	}
	host.IncomingBodyFinish(body).Drop()
	return collected
}

// recorder collects a response.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
	begun  bool
}

func (response *recorder) Header() http.Header { return response.header }

func (response *recorder) WriteHeader(status int) {
	if !response.begun {
		response.begun = true
		response.status = status
	}
}

func (response *recorder) Write(part []byte) (int, error) {
	response.WriteHeader(http.StatusOK)
	return response.body.Write(part)
}

func (response *recorder) send(out *host.ResponseOutparam) {
	fields := host.MakeFields()
	for name, values := range response.header {
		for _, value := range values {
			fields.Append(strings.ToLower(name), []byte(value)) // a field that HTTP has no room for is left out
		}
	}
	outgoing := host.MakeOutgoingResponse(fields)
	outgoing.SetStatusCode(uint16(response.status))
	body := outgoing.Body().Ok()
	host.ResponseOutparamSet(out, types.Ok[*host.OutgoingResponse, host.ErrorCode](outgoing))
	if opened := body.Write(); opened.IsOk() {
		write(opened.Ok(), &response.body)
	}
	host.OutgoingBodyFinish(body, types.None[*host.Fields]())
}

func write(stream *streams.OutputStream, content io.Reader) {
	defer stream.Drop()
	part := make([]byte, chunk)
	for {
		size, err := content.Read(part)
		if size > 0 && stream.BlockingWriteAndFlush(part[:size]).IsErr() {
			return // the viewer left
		}
		if err != nil {
			return
		}
	}
}

// chunk is the most that a blocking write takes.
const chunk = 4096
