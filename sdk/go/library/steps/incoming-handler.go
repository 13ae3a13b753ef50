// Package export_wasi_http_incoming_handler is what the generated export calls.
package export_wasi_http_incoming_handler

import (
	host "tidegate/bindings/wasi_http_types"
	"tidegate/function"
)

// Handle asks the function.
func Handle(request *host.IncomingRequest, out *host.ResponseOutparam) { function.Handle(request, out) }
